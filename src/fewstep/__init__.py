"""fewstep distils a many-step flow-matching image model into one 4-step student that generates and edits."""

__version__ = "0.1.0"

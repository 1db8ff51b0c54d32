"""Property tests of this folder count examples, not seconds: the machine may be busy."""

from hypothesis import HealthCheck, settings

settings.register_profile("border", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("border")

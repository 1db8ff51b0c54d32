"""The screens of the studio, in the order of the navigation. A new one is a line here: a module of `screens/` with a
`SCREEN`, and `static/screens/NAME.js` (docs/studio.md)."""

from fewstep.run.studio.screens import bench, data, plan, playground, run_page, runs, ship, vote
from fewstep.run.studio.studio import Screen

SCREENS: tuple[Screen, ...] = (
    runs.SCREEN,
    run_page.SCREEN,
    playground.SCREEN,
    vote.SCREEN,
    bench.SCREEN,
    ship.SCREEN,
    plan.SCREEN,
    data.SCREEN,
)

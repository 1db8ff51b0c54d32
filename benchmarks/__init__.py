"""What is measured and not asserted. A package, because some distributions leave a `benchmarks` in site-packages."""

def test_that_nobody_runs_this_here():
    raise AssertionError

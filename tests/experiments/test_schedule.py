from apptell.experiments.schedule import Schedule


def test_the_schedule_says_what_was_reduced() -> None:
    one = "REDUCED: 1 epochs instead of the paper's 100, 1 seed"
    assert Schedule(1, (0,), "cpu").words == one
    assert Schedule(100, (0, 1), "cpu").words == "100 epochs as in the paper, 2 seeds"
    ended = "at most the paper's 100 epochs (ended after 5 epochs without a smaller loss on a held-out tenth"
    assert Schedule(100, (0,), "cpu", 5).words.startswith(ended)


def test_patience_holds_flows_out() -> None:
    assert Schedule(100, (0,), "cpu").hyperparameters is None
    assert Schedule(100, (0,), "cpu", 5).hyperparameters == {"validation": 0.1, "patience": 5}


def test_a_cpu_has_fewer_epochs_and_quick_fewer_still() -> None:
    assert Schedule.choose(device="cpu") == Schedule(15, (0, 1, 2, 3, 4), "cpu")
    assert Schedule.choose(device="cpu", quick=True, seed=3) == Schedule(10, (3, 4), "cpu")
    assert Schedule.choose(100, 1, device="cpu", patience=7) == Schedule(100, (0,), "cpu", 7)

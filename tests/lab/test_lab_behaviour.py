import statistics

from lab.behaviour import Habits, Person, label

WEIGHTS = {"text": 8, "picture": 2}


def test_sizes_follow_their_medians():
    person = Person("a")
    sizes = [len(person.picture()) for _ in range(400)]
    assert 48_000 < statistics.median(sizes) < 74_000
    assert min(sizes) >= 4_000
    assert len(set(sizes)) > 300


def test_texts_are_words_within_their_limits():
    person = Person("b")
    texts = [person.text() for _ in range(300)]
    assert all(1 <= len(text) <= 1_200 for text in texts)
    assert 25 < statistics.median(map(len, texts)) < 65


def test_few_sessions_only_connect_and_sign_in():
    plans = [Person(f"c{n}").plan(WEIGHTS) for n in range(2_000)]
    bare = sum(not plan for plan in plans) / len(plans)
    assert 0.03 < bare < 0.09
    texts = sum(plan.count("text") for plan in plans)
    pictures = sum(plan.count("picture") for plan in plans)
    assert 3.2 < texts / pictures < 4.9


def test_the_same_seed_draws_the_same_session():
    def draw(seed):
        person = Person(seed)
        return person.plan(WEIGHTS), person.text(), person.voice(), person.pause_s()

    assert draw("d") == draw("d")
    assert draw("d") != draw("e")


def test_drift_moves_the_habits_with_the_day():
    today, later = Habits().drifted(0), Habits().drifted(4)
    assert today == Habits()
    assert later.picture_median_bytes > 1.3 * today.picture_median_bytes
    assert later.pause_median_s < today.pause_median_s


def test_host_labels_are_valid_and_differ():
    labels = {label(Person(f"f{n}").random) for n in range(200)}
    assert len(labels) > 190
    assert all(name[0].isalpha() and name.isalnum() and 3 <= len(name) <= 10 for name in labels)

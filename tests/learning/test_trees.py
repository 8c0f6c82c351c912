import numpy as np
from sklearn.tree import DecisionTreeClassifier

from apptell.learning.trees import Trees, compact


def grown(seed, n_classes=3):
    random = np.random.default_rng(seed)
    X = np.round(random.normal(size=(200, 4)), 1).astype(np.float32)
    y = random.integers(0, n_classes, 200)
    return X, DecisionTreeClassifier(random_state=seed).fit(X, y)


def plain_votes(trees, X):
    """The twin of the kernel: node by node, as the table's description says."""
    found = np.zeros((len(X), trees.n_classes))
    for row, features in enumerate(X):
        for base in trees.root[:-1]:
            node = base
            while trees.left[node] >= 0:
                goes_left = features[trees.feature[node]] <= trees.threshold[node]
                node = base + (trees.left if goes_left else trees.right)[node]
            for at in range(trees.first[node], trees.first[node + 1]):
                found[row, trees.of_class[at]] += trees.share[at]
    return found / len(trees)


def test_the_kernel_votes_as_its_plain_twin_and_as_scikit_learn():
    X, first = grown(0)
    _, second = grown(1)
    every = np.arange(3)
    trees = Trees.join([compact(tree.tree_, every, 3) for tree in (first, second)])
    found = trees.votes(X, 2)
    np.testing.assert_allclose(found, plain_votes(trees, X), atol=1e-12)
    expected = (first.predict_proba(X) + second.predict_proba(X)) / 2
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_joined_trees_keep_their_own_numbers():
    trees = [compact(grown(seed)[1].tree_, np.arange(3), 3) for seed in range(3)]
    joined = Trees.join([Trees.join(trees[:2]), trees[2]])
    assert len(joined) == 3
    assert joined.root.tolist() == np.cumsum([0] + [len(t.left) for t in trees]).tolist()
    assert joined.depth == max(tree.depth for tree in trees)
    leaves = joined.left < 0
    assert (np.diff(joined.first)[leaves] >= 1).all()
    assert (np.diff(joined.first)[~leaves] == 0).all()


def test_classes_are_numbered_as_among_all():
    X, tree = grown(0, n_classes=2)
    wide = compact(tree.tree_, np.array([4, 1]), 5).votes(X)
    np.testing.assert_allclose(wide[:, [4, 1]], tree.predict_proba(X), atol=1e-12)
    assert not wide[:, [0, 2, 3]].any()

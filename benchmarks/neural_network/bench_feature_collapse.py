"""Shared word vectors against one-hot words with logistic regression."""

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from benchmarks._harness import Case
from skpapers.neural_network import TokenSequenceClassifier, make_concept_sentences

SIZES = {"n_concepts": 3, "n_words": 150, "length": 10, "n_classes": 60, "frequency": "zipf"}


def cases():
    for n, n_epochs, solver in [(60, 5, "saga"), (60, 5, "lbfgs")]:
        X, y, _, latents = make_concept_sentences(n, return_roles=True, random_state=0, **SIZES)
        X_test, y_test = make_concept_sentences(20, latents=latents, random_state=1, **SIZES)
        ours = TokenSequenceClassifier(
            embedding_dim=32, lr=0.5, batch_size=60, max_epochs=n_epochs, random_state=0
        )
        yield Case(
            name="TokenSequenceClassifier",
            size=f"{60 * n} x 10 words, 60 classes, {n_epochs} epochs",
            peer_name=f"OneHotEncoder + LogisticRegression({solver})",
            ours=lambda model=ours, X=X, y=y: model.fit(X, y),
            peer=lambda X=X, y=y, solver=solver: one_hot(solver).fit(X, y),
            accuracy=lambda model, X=X_test, y=y_test: model.score(X, y),
            metric="test accuracy",
        )


def one_hot(solver):
    regression = LogisticRegression(solver=solver, max_iter=1000, random_state=0)
    return make_pipeline(OneHotEncoder(handle_unknown="ignore"), regression)

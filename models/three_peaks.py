"""Three Gaussian peaks on the line, approximated by two: which peaks does a fit keep?

The target is a mixture of three Gaussians, means −2, 0, 2, weights 0.3, 0.4, 0.3. A
mixture of two cannot be it, so the divergence decides what is given up. The experiment
was published once as "reverse KL picks modes, forward KL covers them"; its figures are
evaluated here as they stand, beside fits of our own.
"""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

from vi_compare import Given, Published, Study


def peaks():
    return dist.MixtureSameFamily(
        dist.Categorical(probs=jnp.array([0.3, 0.4, 0.3])),
        dist.Normal(jnp.array([-2.0, 0.0, 2.0]), jnp.array([0.3, 0.4, 0.3])),
    )


def model():
    numpyro.sample("x", peaks())


def exact(key, n):
    return {"x": peaks().sample(key, (n,))}


POST = "the blog post that this experiment comes from"
FORWARD = {"weights": ["0.52", "0.48"], "means": ["-1.98", "1.97"], "sds": ["0.41", "0.42"]}
REVERSE = {"weights": ["0.426", "0.574"], "means": ["-2.001", "0.010"], "sds": ["0.299", "0.418"]}


def as_numbers(figures):
    return {name: [float(text) for text in texts] for name, texts in figures.items()}


study = Study(
    model,
    exact=exact,
    fits=[
        "mixture:2/reverse-kl",
        "mixture:2/forward-kl",
        Given("published reverse KL", "mixture:2", **as_numbers(REVERSE)),
        Given("published forward KL", "mixture:2", **as_numbers(FORWARD)),
    ],
    published=[
        # The target is symmetric: keeping the left peak or the right one is as good.
        Published("mixture:2/reverse-kl", POST, **REVERSE, mirror=True),
        Published("mixture:2/reverse-kl", POST, metrics={"reverse_kl": "0.3524"}),
        Published("published reverse KL", POST, metrics={"reverse_kl": "0.3524"}),
        Published("mixture:2/forward-kl", POST, **FORWARD, mirror=True),
        Published("mixture:2/forward-kl", POST, metrics={"forward_kl": "0.0012"}),
        Published("published forward KL", POST, metrics={"forward_kl": "0.0012"}),
    ],
)

if __name__ == "__main__":
    study.main()

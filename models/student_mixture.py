"""Five Student-t components in the plane, two degrees of freedom: modes and heavy tails at once.

A small relative of the target "STM" of Blessing, Jia, Esslinger, Vargas and Neumann (2024),
Beyond ELBOs: a large-scale evaluation of variational methods for sampling, ICML.

Hard in two ways. There are modes to be missed, as in any mixture; and no Gaussian component
has such tails: with two degrees of freedom the target has no variance. Standard deviations and
whatever is built on them say nothing here; medians, quantile ranges and tail masses do.
Reverse KL trims the tails. EM, which is forward KL on finitely many draws, spends components
on the furthest of them, so it needs more components than there are modes.
"""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

from vi_compare import Study

WEIGHTS = (0.15, 0.25, 0.1, 0.3, 0.2)
LOCATIONS = ((-6.0, -5.0), (-7.0, 6.0), (0.0, 0.0), (7.0, 5.0), (6.0, -7.0))
FREEDOM = 2.0


def components():
    parts = dist.MultivariateStudentT(FREEDOM, jnp.array(LOCATIONS), jnp.eye(2))
    return dist.MixtureSameFamily(dist.Categorical(probs=jnp.array(WEIGHTS)), parts)


def model():
    numpyro.sample("x", components())


def exact(key, n):
    return {"x": components().sample(key, (n,))}


study = Study(
    model,
    exact=exact,
    fits=[
        "mvn/reverse-kl",
        "mixture:5/reverse-kl",
        "mixture:5/forward-kl",
        "student:5/forward-kl",
    ],
    restarts=4,
)

if __name__ == "__main__":
    study.main()

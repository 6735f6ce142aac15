"""What q can be, as a family: everything that the rest of the package asks of a guide.

``family(guide)`` answers for any guide. `Family` is what every guide offers, with honest
defaults; a guide that can do more has a subclass, put down by ``@register(TheGuide)``.
NumPyro's own are in ``_numpyro.py``, those of this package beside their guide in ``guides/``.
Nothing else looks at a guide's type or asks it for a method.
"""

from __future__ import annotations

from vi_compare.families._family import Covariances as Covariances
from vi_compare.families._family import Family as Family
from vi_compare.families._family import GaussianMixture as GaussianMixture
from vi_compare.families._family import family as family
from vi_compare.families._family import register as register
from vi_compare.families._numpyro import FlatFamily as FlatFamily
from vi_compare.families._parameters import arrays as arrays
from vi_compare.families._parameters import constrained as constrained
from vi_compare.families._parameters import first_parameters as first_parameters
from vi_compare.families._parameters import impossible as impossible
from vi_compare.families._parameters import nested as nested
from vi_compare.families._parameters import number_of_parameters as number_of_parameters
from vi_compare.families._parameters import shapes as shapes
from vi_compare.families._parameters import unconstrained as unconstrained

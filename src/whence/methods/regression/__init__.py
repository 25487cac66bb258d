"""Linear solvers for many targets on one 0/1 design; usable on plain arrays, independent of banks."""

from whence.methods.regression.fit import Fit
from whence.methods.regression.lasso import lasso, lasso_path
from whence.methods.regression.moments import Moments, moments, pooled
from whence.methods.regression.ridge import ols, ridge

__all__ = ["Fit", "Moments", "lasso", "lasso_path", "moments", "ols", "pooled", "ridge"]

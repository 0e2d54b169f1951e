from ._phi_s import HadamardWhitener as HadamardWhitener
from ._phi_s import MultiTeacherRegressor as MultiTeacherRegressor
from ._phi_s import PHIStandardScaler as PHIStandardScaler
from ._phi_s import hadamard_matrix as hadamard_matrix

from ._hadamard import hadamard_matrix as hadamard_matrix
from ._multi_teacher import MultiTeacherRegressor as MultiTeacherRegressor
from ._phi_s import HadamardWhitener as HadamardWhitener, PHIStandardScaler as PHIStandardScaler

// The kernels of the CuPy backend, compiled at run time with REAL = float or double.
//
// Matrices are dense, a sample a row. Loops go on by the size of the grid, so that any number of
// blocks is right. Nothing here is atomic: the same launch gives the same bits.
//
// A number that changes from step to step comes twice: where on the device to read it, and its
// value for where that is null. So a captured graph can be run again with new numbers.

typedef REAL real;
typedef long long int64;
typedef unsigned long long uint64;

const unsigned WARP = 32;
const unsigned FULL = 0xffffffffu;

__device__ inline real number(const double* at, double value) { return real(at ? *at : value); }

__device__ inline int64 first() { return int64(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline int64 stride() { return int64(gridDim.x) * blockDim.x; }

// Row and column of an element. A division of 64 bits takes several times as long as one of 32.
struct Place {
  int64 row, column;
  __device__ Place(int64 element, int64 columns) {
    if (((element | columns) >> 32) == 0) {
      row = unsigned(element) / unsigned(columns);
    } else {
      row = element / columns;
    }
    column = element - row * columns;
  }
};

// --- a warp a row ---------------------------------------------------------------------------

__device__ inline unsigned lane() { return threadIdx.x % WARP; }
__device__ inline int64 first_row() { return first() / WARP; }
__device__ inline int64 row_stride() { return stride() / WARP; }

__device__ inline real warp_sum(real value) {
  for (unsigned other = WARP / 2; other > 0; other /= 2) {
    value += __shfl_xor_sync(FULL, value, other);
  }
  return value;
}

__device__ inline real warp_max(real value) {
  for (unsigned other = WARP / 2; other > 0; other /= 2) {
    const real theirs = __shfl_xor_sync(FULL, value, other);
    value = theirs > value ? theirs : value;
  }
  return value;
}

// A NaN may be passed over here: the sum of exponentials then is NaN.
__device__ inline real row_max(const real* row, int64 columns) {
  real largest = row[0];
  for (int64 j = lane(); j < columns; j += WARP) {
    largest = row[j] > largest ? row[j] : largest;
  }
  return warp_max(largest);
}

// --- vectors --------------------------------------------------------------------------------

// out <- beta out + alpha x; x is as long as out, or a row that is repeated.
extern "C" __global__ void axpby(const real* x, real* out, int64 count, int64 period,
                                 const double* alpha_at, double alpha_value,
                                 const double* beta_at, double beta_value) {
  const real alpha = number(alpha_at, alpha_value), beta = number(beta_at, beta_value);
  for (int64 k = first(); k < count; k += stride()) {
    const real scaled = alpha * x[period == count ? k : Place(k, period).column];
    out[k] = beta == real(0) ? scaled : beta * out[k] + scaled;  // 0 NaN of an unset out is NaN
  }
}

// out <- beta out + alpha (the sum of the rows of x). A block has 32 columns; its warps share the
// rows, and the first adds up what they have.
extern "C" __global__ void sum_rows(const real* x, real* out, int64 rows, int64 columns,
                                    const double* alpha_at, double alpha_value,
                                    const double* beta_at, double beta_value) {
  __shared__ real partial[WARP][WARP];
  const real alpha = number(alpha_at, alpha_value), beta = number(beta_at, beta_value);
  const unsigned warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
  for (int64 tile = blockIdx.x; tile * WARP < columns; tile += gridDim.x) {
    const int64 column = tile * WARP + lane();
    real sum = 0;
    if (column < columns) {
      for (int64 i = warp; i < rows; i += warps) sum += x[i * columns + column];
    }
    partial[warp][lane()] = sum;
    __syncthreads();
    if (warp == 0 && column < columns) {
      for (unsigned w = 1; w < warps; ++w) sum += partial[w][lane()];
      out[column] = beta == real(0) ? alpha * sum : beta * out[column] + alpha * sum;
    }
    __syncthreads();  // the next tile writes over `partial`
  }
}

// --- rows of the data -----------------------------------------------------------------------

// A sign, 5 bits of exponent and 10 of mantissa; CUDA's own type needs headers. CuPy compiles with
// -ftz=true, so that no step of this may be a subnormal float.
struct Half {
  unsigned short bits;
  __device__ operator float() const {
    const unsigned sign = (bits & 0x8000u) << 16, rest = bits & 0x7fffu;
    if (rest < 0x0400u) {
      const float magnitude = float(rest) * 5.9604644775390625e-8f;  // 2^-24: a subnormal's unit
      return sign ? -magnitude : magnitude;
    }
    const unsigned wide = rest << 13;
    if (rest >= 0x7c00u) return __uint_as_float(sign | wide | 0x7f800000u);  // infinity and NaN
    return __uint_as_float(sign | (wide + (112u << 23)));  // exponents count from -127, not -15
  }
};

// In what a source's values are scaled: in double where they are finer than the result.
template <typename Source> struct Wider { typedef real type; };
template <> struct Wider<int> { typedef double type; };
template <> struct Wider<unsigned> { typedef double type; };
template <> struct Wider<int64> { typedef double type; };
template <> struct Wider<uint64> { typedef double type; };
template <> struct Wider<double> { typedef double type; };

// A number, or a vector over the last axis.
struct PerColumn {
  const double* at;
  int64 length;
  double value;
  __device__ double operator()(int64 column) const {
    return at ? at[Place(column, length).column] : value;
  }
};

// Which rows, in which order: indices of one of two widths, or a slice.
struct Rows {
  const int64* wide;
  const int* narrow;
  int64 start, step;
  __device__ int64 operator()(int64 i) const {
    return wide ? wide[i] : narrow ? int64(narrow[i]) : start + i * step;
  }
};

template <typename Work, typename Source>
__device__ real affine(Source value, double scale, double offset) {
  return real(Work(scale) * Work(value) + Work(offset));
}

template <typename Work, typename Source>
__device__ void gather(const Source* source, int64 row_stride, int64 column_stride, Rows rows,
                       real* out, int64 count, int64 columns, PerColumn scale,
                       PerColumn offset) {
  for (int64 k = first(); k < count; k += stride()) {
    const Place at(k, columns);
    const Source value = source[rows(at.row) * row_stride + at.column * column_stride];
    out[k] = affine<Work>(value, scale(at.column), offset(at.column));
  }
}

#define GATHER(name, Source)                                                                     \
  extern "C" __global__ void gather_##name(                                                      \
      const Source* source, int64 row_stride, int64 column_stride, const int64* wide,            \
      const int* narrow, int64 start, int64 step, real* out, int64 count, int64 columns,         \
      const double* scales, int64 scale_length, double scale, const double* offsets,             \
      int64 offset_length, double offset) {                                                      \
    const Rows rows = {wide, narrow, start, step};                                               \
    const PerColumn by = {scales, scale_length, scale};                                          \
    const PerColumn plus = {offsets, offset_length, offset};                                     \
    if (scales || offsets) { /* vectors are in double precision, and so is what they scale */    \
      gather<double>(source, row_stride, column_stride, rows, out, count, columns, by, plus);    \
    } else {                                                                                     \
      gather<Wider<Source>::type>(source, row_stride, column_stride, rows, out, count, columns,  \
                                  by, plus);                                                     \
    }                                                                                            \
  }

GATHER(bool, bool)
GATHER(uint8, unsigned char)
GATHER(uint16, unsigned short)
GATHER(uint32, unsigned)
GATHER(uint64, uint64)
GATHER(int8, signed char)
GATHER(int16, short)
GATHER(int32, int)
GATHER(int64, int64)
GATHER(float16, Half)
GATHER(float32, float)
GATHER(float64, double)

template <typename Label>
__device__ void one_hot(const Label* labels, real* out, int64 count, int64 classes) {
  for (int64 k = first(); k < count; k += stride()) {
    const Place at(k, classes);
    out[k] = labels[at.row] == at.column ? real(1) : real(0);
  }
}

extern "C" __global__ void one_hot_int64(const int64* labels, real* out, int64 count,
                                         int64 classes) {
  one_hot(labels, out, count, classes);
}

extern "C" __global__ void one_hot_int32(const int* labels, real* out, int64 count,
                                         int64 classes) {
  one_hot(labels, out, count, classes);
}

// --- activations: sigma, and its derivative by a = sigma(z) -----------------------------------

struct Identity {
  __device__ static real slope(real) { return real(1); }
};

struct Sigmoid {
  __device__ static real forward(real z) { return real(0.5) * tanh(real(0.5) * z) + real(0.5); }
  __device__ static real slope(real a) { return a * (real(1) - a); }
};

struct Tanh {
  __device__ static real forward(real z) { return tanh(z); }
  __device__ static real slope(real a) { return real(1) - a * a; }
};

struct Relu {
  __device__ static real forward(real z) { return z < real(0) ? real(0) : z; }  // NaN stays NaN
  __device__ static real slope(real a) { return a > real(0) ? real(1) : real(0); }
};

template <typename Activation>
__device__ void activate(const real* z, real* out, int64 count) {
  for (int64 k = first(); k < count; k += stride()) out[k] = Activation::forward(z[k]);
}

template <typename Activation>
__device__ void backward(real* delta, const real* a, int64 count) {
  for (int64 k = first(); k < count; k += stride()) delta[k] *= Activation::slope(a[k]);
}

#define ACTIVATION(name, Activation)                                                             \
  extern "C" __global__ void activate_##name(const real* z, real* out, int64 count) {            \
    activate<Activation>(z, out, count);                                                         \
  }                                                                                              \
  extern "C" __global__ void backward_##name(real* delta, const real* a, int64 count) {          \
    backward<Activation>(delta, a, count);                                                       \
  }

ACTIVATION(sigmoid, Sigmoid)
ACTIVATION(tanh, Tanh)
ACTIVATION(relu, Relu)

// `out` may be z: a lane reads an element before it writes that one, and row_max is done by then.
__device__ inline void softmax_row(const real* z, real* out, int64 columns) {
  const real largest = row_max(z, columns);
  real sum = 0;
  for (int64 k = lane(); k < columns; k += WARP) {
    const real e = exp(z[k] - largest);
    out[k] = e;
    sum += e;
  }
  sum = warp_sum(sum);
  for (int64 k = lane(); k < columns; k += WARP) out[k] /= sum;
}

extern "C" __global__ void activate_softmax(const real* z, real* out, int64 rows,
                                            int64 columns) {
  for (int64 i = first_row(); i < rows; i += row_stride()) {
    softmax_row(z + i * columns, out + i * columns, columns);
  }
}

// delta <- a (delta - the sum of delta a over the row)
extern "C" __global__ void backward_softmax(real* delta, const real* a, int64 rows,
                                            int64 columns) {
  for (int64 i = first_row(); i < rows; i += row_stride()) {
    const int64 start = i * columns, end = start + columns;
    real sum = 0;
    for (int64 k = start + lane(); k < end; k += WARP) sum += delta[k] * a[k];
    sum = warp_sum(sum);
    for (int64 k = start + lane(); k < end; k += WARP) delta[k] = a[k] * (delta[k] - sum);
  }
}

// --- costs: of a row by a warp, which also writes delta ----------------------------------------

// Of a row: the sum over the columns of (a - y)^2 / 2; delta <- (a - y) sigma'.
template <typename Activation>
struct Quadratic {
  __device__ static real row(const real*, const real* a, const real* y, real* delta,
                             int64 columns) {
    real sum = 0;
    for (int64 k = lane(); k < columns; k += WARP) {
      const real error = a[k] - y[k];
      sum += error * error;
      delta[k] = error * Activation::slope(a[k]);
    }
    return real(0.5) * warp_sum(sum);
  }
};

// From z, with the short delta = a - y: ln(1 + e^z) - y z, in the form that neither overflows nor
// cancels.
struct CrossEntropy {
  __device__ static real row(const real* z, const real* a, const real* y, real* delta,
                             int64 columns) {
    real sum = 0;
    for (int64 k = lane(); k < columns; k += WARP) {
      const real positive = z[k] > real(0) ? z[k] : real(0);
      sum += (positive - y[k] * z[k]) + log1p(exp(-fabs(z[k])));
      delta[k] = a[k] - y[k];
    }
    return warp_sum(sum);
  }
};

// The same for softmax: ln(sum of e^(z - max)) - the sum of y (z - max).
struct LogLikelihood {
  __device__ static real row(const real* z, const real* a, const real* y, real* delta,
                             int64 columns) {
    const real largest = row_max(z, columns);
    real exponentials = 0, chosen = 0;
    for (int64 k = lane(); k < columns; k += WARP) {
      const real shifted = z[k] - largest;
      exponentials += exp(shifted);
      chosen += y[k] * shifted;
      delta[k] = a[k] - y[k];
    }
    return log(warp_sum(exponentials)) - warp_sum(chosen);
  }
};

#define COST(name, Cost)                                                                         \
  extern "C" __global__ void name(const real* z, const real* a, const real* y, real* delta,      \
                                  real* values, int64 rows, int64 columns) {                     \
    for (int64 i = first_row(); i < rows; i += row_stride()) {                                   \
      const int64 at = i * columns;                                                              \
      const real value = Cost::row(z + at, a + at, y + at, delta + at, columns);                 \
      if (lane() == 0) values[i] = value;                                                        \
    }                                                                                            \
  }

COST(quadratic_identity, Quadratic<Identity>)
COST(quadratic_sigmoid, Quadratic<Sigmoid>)
COST(quadratic_tanh, Quadratic<Tanh>)
COST(quadratic_relu, Quadratic<Relu>)
COST(cross_entropy_sigmoid, CrossEntropy)
COST(log_likelihood_softmax, LogLikelihood)

// --- optimizers: the recursions of optimizers.py, on an element ---------------------------------

struct Momentum {
  real mu, rate;
  bool nesterov;
  __device__ void operator()(real& w, real g, real& velocity) const {
    const real step = rate * g;
    velocity = mu * velocity - step;
    w += nesterov ? mu * velocity - step : velocity;
  }
};

struct RMSprop {
  real kept, fresh, rate, epsilon;
  __device__ void operator()(real& w, real g, real& square) const {
    square = kept * square + fresh * g * g;
    w -= rate * g / (sqrt(square) + epsilon);
  }
};

// `rate` and `epsilon` are corrected for the step; w shrinks by `decay` of itself.
struct Adam {
  real kept1, fresh1, kept2, fresh2, rate, epsilon;
  __device__ void operator()(real& w, real g, real& mean, real& square, real decay) const {
    mean = kept1 * mean + fresh1 * g;
    square = kept2 * square + fresh2 * g * g;
    w = (w - decay * w) - rate * mean / (sqrt(square) + epsilon);
  }
};

extern "C" __global__ void momentum(real* theta, const real* grad, real* velocity, int64 count,
                                    double mu, int64 nesterov, const double* rate_at,
                                    double rate) {
  const Momentum step = {real(mu), number(rate_at, rate), nesterov != 0};
  for (int64 k = first(); k < count; k += stride()) step(theta[k], grad[k], velocity[k]);
}

extern "C" __global__ void rmsprop(real* theta, const real* grad, real* square, int64 count,
                                   double rho, double epsilon, const double* rate_at,
                                   double rate) {
  const RMSprop step = {real(rho), real(1.0 - rho), number(rate_at, rate), real(epsilon)};
  for (int64 k = first(); k < count; k += stride()) step(theta[k], grad[k], square[k]);
}

// The first `decayed` elements are weights.
extern "C" __global__ void adam(real* theta, const real* grad, real* mean, real* square,
                                int64 count, int64 decayed, double beta1, double beta2,
                                const double* rate_at, double rate, const double* epsilon_at,
                                double epsilon, const double* decay_at, double decay_value) {
  const Adam step = {real(beta1), real(1.0 - beta1), real(beta2), real(1.0 - beta2),
                     number(rate_at, rate), number(epsilon_at, epsilon)};
  const real decay = number(decay_at, decay_value);
  for (int64 k = first(); k < count; k += stride()) {
    step(theta[k], grad[k], mean[k], square[k], k < decayed ? decay : real(0));
  }
}

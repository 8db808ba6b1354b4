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

__device__ inline real number(const real* at, double value) { return at ? *at : real(value); }

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

__device__ inline real blend(real beta, const real& old, real scaled) {
  return beta == real(0) ? scaled : beta * old + scaled;  // 0 NaN of what is unset would be NaN
}

// out <- beta out + alpha x; x is as long as out, or a row that is repeated.
extern "C" __global__ void axpby(const real* x, real* out, int64 count, int64 period,
                                 const real* alpha_at, double alpha_value,
                                 const real* beta_at, double beta_value) {
  const real alpha = number(alpha_at, alpha_value), beta = number(beta_at, beta_value);
  if (period != count) {
    for (int64 k = first(); k < count; k += stride()) {
      out[k] = blend(beta, out[k], alpha * x[Place(k, period).column]);
    }
    return;
  }
  const int FOUR = 4;  // at once: x may be out, so that no load would pass a store before it
  for (int64 k = first(); k < count; k += FOUR * stride()) {
    real some[FOUR], old[FOUR];
#pragma unroll
    for (int t = 0; t < FOUR; ++t) {
      const int64 at = k + t * stride();
      if (at < count) some[t] = x[at];
      if (at < count && beta != real(0)) old[t] = out[at];
    }
#pragma unroll
    for (int t = 0; t < FOUR; ++t) {
      const int64 at = k + t * stride();
      if (at < count) out[at] = blend(beta, old[t], alpha * some[t]);
    }
  }
}

enum Reduction { SUM, LARGEST };  // the largest of numbers that are not negative

__device__ inline real of_warp(Reduction how, real value) {
  return how == SUM ? warp_sum(value) : warp_max(value);
}

// Of a value of each thread, for all threads of the block.
__device__ real of_block(Reduction how, real value) {
  __shared__ real partial[WARP];
  value = of_warp(how, value);
  if (lane() == 0) partial[threadIdx.x / WARP] = value;
  __syncthreads();
  value = of_warp(how, lane() < blockDim.x / WARP ? partial[lane()] : real(0));
  __syncthreads();  // the next value writes over `partial`
  return value;
}

// parts <- of each part of x: the largest magnitude M, and the sum of (x / M)^2, which neither
// overflows nor vanishes. A NaN is in that sum.
extern "C" __global__ void norm_parts(const real* x, real* parts, int64 count, int64 of_parts) {
  const int64 step = of_parts * blockDim.x;
  for (int64 p = blockIdx.x; p < of_parts; p += gridDim.x) {
    const int64 begin = p * blockDim.x + threadIdx.x;
    real largest = 0, sum = 0;
    for (int64 k = begin; k < count; k += step) {
      const real magnitude = fabs(x[k]);
      largest = magnitude > largest ? magnitude : largest;
    }
    largest = of_block(LARGEST, largest);
    for (int64 k = begin; k < count; k += step) {
      const real share = x[k] / (largest > real(0) ? largest : real(1));
      sum += share * share;
    }
    sum = of_block(SUM, sum);
    if (threadIdx.x == 0) {
      parts[2 * p] = largest;
      parts[2 * p + 1] = sum;
    }
  }
}

// x <- x min(1, norm / its norm), from `parts` of it. In two steps, as in its twin: the norm itself
// may be beyond the numbers.
extern "C" __global__ void clip_norm(real* x, const real* parts, int64 count, int64 of_parts,
                                     double norm) {
  real largest = 0, sum = 0;
  for (int64 p = threadIdx.x; p < of_parts; p += blockDim.x) {
    largest = parts[2 * p] > largest ? parts[2 * p] : largest;
  }
  largest = of_block(LARGEST, largest);
  if (!(largest > real(0))) largest = 1;
  for (int64 p = threadIdx.x; p < of_parts; p += blockDim.x) {
    const real share = parts[2 * p] / largest;
    sum += parts[2 * p + 1] * share * share;
  }
  const real root = sqrt(of_block(SUM, sum)), most = real(norm) / (root < real(1) ? real(1) : root);
  if (!(largest > most)) return;  // or it is NaN
  for (int64 k = first(); k < count; k += stride()) x[k] = x[k] / largest * most;
}

// out <- out + alpha sign(x); a NaN stays
extern "C" __global__ void add_signs(const real* x, real* out, int64 count, const real* alpha_at,
                                     double alpha_value) {
  const real alpha = number(alpha_at, alpha_value);
  for (int64 k = first(); k < count; k += stride()) {
    out[k] += alpha * (x[k] > real(0) ? real(1) : x[k] < real(0) ? real(-1) : x[k]);
  }
}

// N sums over the rows of each column, of each part of the rows: load(column, place, values) gives
// what is at a place, and store(place, sum) takes what belongs in (parts, N, columns). A block has
// 32 columns of a part; its warps share the rows, and the first adds up what they have.
template <int N, typename Load, typename Store>
__device__ void sum_columns(int64 rows, int64 columns, int64 parts, Load load, Store store) {
  const int AT_ONCE = 8 / N;  // loads, as in sum_at
  __shared__ real partial[N][WARP][WARP];
  const unsigned warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
  const int64 tiles = (columns + WARP - 1) / WARP, step = parts * warps;
  for (int64 k = blockIdx.x; k < tiles * parts; k += gridDim.x) {
    const Place of(k, tiles);
    const int64 column = of.column * WARP + lane();
    real sums[N] = {};
    if (column < columns) {
      for (int64 i = of.row * warps + warp; i < rows; i += AT_ONCE * step) {
        real some[AT_ONCE][N] = {};
#pragma unroll
        for (int t = 0; t < AT_ONCE; ++t) {
          const int64 row = i + t * step;
          if (row < rows) load(column, row * columns + column, some[t]);
        }
#pragma unroll
        for (int t = 0; t < AT_ONCE; ++t) {
          for (int n = 0; n < N; ++n) sums[n] += some[t][n];
        }
      }
    }
    for (int n = 0; n < N; ++n) partial[n][warp][lane()] = sums[n];
    __syncthreads();
    if (warp == 0 && column < columns) {
      for (int n = 0; n < N; ++n) {
        for (unsigned w = 1; w < warps; ++w) sums[n] += partial[n][w][lane()];
        store((of.row * N + n) * columns + column, sums[n]);
      }
    }
    __syncthreads();  // the next tile writes over `partial`
  }
}

// out <- beta out + alpha (the sum of the rows of each part of x)
extern "C" __global__ void sum_rows(const real* x, real* out, int64 rows, int64 columns,
                                    int64 parts, const real* alpha_at, double alpha_value,
                                    const real* beta_at, double beta_value) {
  const real alpha = number(alpha_at, alpha_value), beta = number(beta_at, beta_value);
  sum_columns<1>(
      rows, columns, parts,
      [&](int64, int64 place, real* values) { values[0] = x[place]; },
      [&](int64 place, real sum) { out[place] = blend(beta, out[place], alpha * sum); });
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

// out_k <- out_k + alpha (the sum of the rows i of x with keys[i] = k, in their order). A warp has 32
// columns of a row, and adds up all of its key if it is the first of them. Nothing is sorted, which
// CuPy does not do in a graph: n rows are looked at n / 32 times at most by each.
template <typename Key>
__device__ void sum_at(const real* x, const Key* keys, real* out, int64 rows, int64 columns,
                       real alpha) {
  const int64 slabs = (columns + WARP - 1) / WARP;
  for (int64 k = first_row(); k < rows * slabs; k += row_stride()) {
    const Place at(k, slabs);
    const Key key = keys[at.row];
    bool is_first = true;
    for (int64 i = 0; i < at.row && is_first; i += WARP) {
      is_first = !__ballot_sync(FULL, i + lane() < at.row && keys[i + lane()] == key);
    }
    if (!is_first) continue;
    const int64 column = at.column * WARP + lane();
    real sum = 0;
    for (int64 i = at.row; i < rows; i += WARP) {
      unsigned same = __ballot_sync(FULL, i + lane() < rows && keys[i + lane()] == key);
      while (same) {  // eight loads at once: one after another, each would wait for its addition
        real some[8];
#pragma unroll
        for (int t = 0; t < 8; ++t, same &= same - 1) {
          const bool there = same && column < columns;
          some[t] = there ? x[(i + __ffs(same) - 1) * columns + column] : real(0);
        }
#pragma unroll
        for (int t = 0; t < 8; ++t) sum += some[t];
      }
    }
    if (column < columns) out[int64(key) * columns + column] += alpha * sum;
  }
}

extern "C" __global__ void sum_at_int64(const real* x, const int64* keys, real* out, int64 rows,
                                        int64 columns, const real* alpha_at,
                                        double alpha_value) {
  sum_at(x, keys, out, rows, columns, number(alpha_at, alpha_value));
}

extern "C" __global__ void sum_at_int32(const real* x, const int* keys, real* out, int64 rows,
                                        int64 columns, const real* alpha_at,
                                        double alpha_value) {
  sum_at(x, keys, out, rows, columns, number(alpha_at, alpha_value));
}

// --- activations: sigma, and its derivative -----------------------------------------------------
//
// The formulas of activations.py. `own` is an activation's own number, which few have. Where the
// derivative is found from a = sigma(z), z is not read: a may have been written over it.

struct Identity {
  __device__ static real forward(real z, real = 0) { return z; }
  __device__ static real slope(real, real, real = 0) { return real(1); }
};

struct Sigmoid {
  __device__ static real forward(real z, real = 0) { return real(1) / (real(1) + exp(-z)); }
  __device__ static real slope(real, real a, real = 0) { return a * (real(1) - a); }
};

struct Tanh {
  __device__ static real forward(real z, real = 0) { return tanh(z); }
  __device__ static real slope(real, real a, real = 0) { return real(1) - a * a; }
};

struct Relu {
  // NaN stays NaN
  __device__ static real forward(real z, real = 0) { return z < real(0) ? real(0) : z; }
  __device__ static real slope(real, real a, real = 0) { return a > real(0) ? real(1) : real(0); }
};

struct LeakyRelu {
  __device__ static real forward(real z, real own) { return z > real(0) ? z : own * z; }
  __device__ static real slope(real z, real, real own) { return z > real(0) ? real(1) : own; }
};

struct Elu {
  __device__ static real forward(real z, real own) { return z > real(0) ? z : own * expm1(z); }
  __device__ static real slope(real, real a, real own) {
    return a > real(0) ? real(1) : a + own;
  }
};

struct Gelu {
  static constexpr real SCALE = real(0.79788456080286535588), CUBE = real(0.044715);
  __device__ static real inner(real z) { return tanh(SCALE * z * (real(1) + CUBE * z * z)); }
  __device__ static real forward(real z, real) { return real(0.5) * z * (real(1) + inner(z)); }
  __device__ static real slope(real z, real, real) {
    const real t = inner(z), bent = real(0.5) * SCALE * z * (real(1) - t * t);
    // Multiplied from the left: `bent` is 0 where z z overflows, and 0 infinity would be NaN.
    return real(0.5) * (real(1) + t) + (bent + real(3) * CUBE * bent * z * z);
  }
};

struct Silu {
  __device__ static real share(real z) { return real(0.5) * tanh(real(0.5) * z) + real(0.5); }
  __device__ static real forward(real z, real) { return z * share(z); }
  __device__ static real slope(real z, real a, real) {
    const real s = share(z);
    return s + a * (real(1) - s);
  }
};

struct Softplus {
  __device__ static real forward(real z, real) {
    return (z < real(0) ? real(0) : z) + log1p(exp(-fabs(z)));  // neither overflows; NaN stays
  }
  __device__ static real slope(real z, real, real) { return exp(-forward(-z, 0)); }
};

struct Exponential {
  __device__ static real forward(real z, real) { return exp(z); }
  __device__ static real slope(real, real a, real) { return a; }
};

template <typename Activation>
__device__ void activate(const real* z, real* out, int64 count, real own) {
  for (int64 k = first(); k < count; k += stride()) out[k] = Activation::forward(z[k], own);
}

template <typename Activation>
__device__ void backward(real* delta, const real* z, const real* a, int64 count, real own) {
  for (int64 k = first(); k < count; k += stride()) {
    delta[k] *= Activation::slope(z[k], a[k], own);
  }
}

#define ACTIVATION(name, Activation)                                                             \
  extern "C" __global__ void activate_##name(const real* z, real* out, int64 count,              \
                                             double own) {                                       \
    activate<Activation>(z, out, count, real(own));                                              \
  }                                                                                              \
  extern "C" __global__ void backward_##name(real* delta, const real* z, const real* a,          \
                                             int64 count, double own) {                          \
    backward<Activation>(delta, z, a, count, real(own));                                         \
  }

ACTIVATION(sigmoid, Sigmoid)
ACTIVATION(tanh, Tanh)
ACTIVATION(relu, Relu)
ACTIVATION(leaky_relu, LeakyRelu)
ACTIVATION(elu, Elu)
ACTIVATION(gelu, Gelu)
ACTIVATION(silu, Silu)
ACTIVATION(softplus, Softplus)
ACTIVATION(exp, Exponential)

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

// --- costs: of a row by a warp, from z, which also writes a and delta --------------------------

// Of a row: the sum over the columns of (a - y)^2 / 2; delta <- (a - y) sigma'.
template <typename Activation>
struct Quadratic {
  __device__ static real row(const real* z, real* a, const real* y, real* delta, int64 columns) {
    real sum = 0;
    for (int64 k = lane(); k < columns; k += WARP) {
      a[k] = Activation::forward(z[k]);
      const real error = a[k] - y[k];
      sum += error * error;
      delta[k] = error * Activation::slope(z[k], a[k]);
    }
    return real(0.5) * warp_sum(sum);
  }
};

// From z, with the short delta = a - y: ln(1 + e^z) - y z, in the form that neither overflows nor
// cancels.
struct CrossEntropy {
  __device__ static real row(const real* z, real* a, const real* y, real* delta, int64 columns) {
    real sum = 0;
    for (int64 k = lane(); k < columns; k += WARP) {
      a[k] = Sigmoid::forward(z[k]);
      const real positive = z[k] > real(0) ? z[k] : real(0);
      sum += (positive - y[k] * z[k]) + log1p(exp(-fabs(z[k])));
      delta[k] = a[k] - y[k];
    }
    return warp_sum(sum);
  }
};

// The same for softmax: ln(sum of e^(z - max)) - the sum of y (z - max).
struct LogLikelihood {
  __device__ static real row(const real* z, real* a, const real* y, real* delta, int64 columns) {
    const real largest = row_max(z, columns);
    real exponentials = 0, chosen = 0;
    for (int64 k = lane(); k < columns; k += WARP) {
      const real shifted = z[k] - largest;
      a[k] = exp(shifted);
      exponentials += a[k];
      chosen += y[k] * shifted;
    }
    exponentials = warp_sum(exponentials);
    for (int64 k = lane(); k < columns; k += WARP) {
      a[k] /= exponentials;
      delta[k] = a[k] - y[k];
    }
    return log(exponentials) - warp_sum(chosen);
  }
};

#define COST(name, Cost)                                                                         \
  extern "C" __global__ void name(const real* z, real* a, const real* y, real* delta,            \
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

// All of an element is read before any of it is written. The compiler cannot change that order,
// since the vectors might overlap, and each read after a write would wait for memory once more.

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

extern "C" __global__ void descend(real* theta, const real* grad, int64 count,
                                   const real* rate_at, double rate_value) {
  const real rate = number(rate_at, rate_value);
  for (int64 k = first(); k < count; k += stride()) theta[k] -= rate * grad[k];
}

extern "C" __global__ void momentum(real* theta, const real* grad, real* velocity, int64 count,
                                    double mu, int64 nesterov, const real* rate_at,
                                    double rate) {
  const Momentum step = {real(mu), number(rate_at, rate), nesterov != 0};
  for (int64 k = first(); k < count; k += stride()) {
    real w = theta[k], v = velocity[k];
    step(w, grad[k], v);
    theta[k] = w;
    velocity[k] = v;
  }
}

extern "C" __global__ void rmsprop(real* theta, const real* grad, real* square, int64 count,
                                   double rho, double epsilon, const real* rate_at,
                                   double rate) {
  const RMSprop step = {real(rho), real(1.0 - rho), number(rate_at, rate), real(epsilon)};
  for (int64 k = first(); k < count; k += stride()) {
    real w = theta[k], s = square[k];
    step(w, grad[k], s);
    theta[k] = w;
    square[k] = s;
  }
}

// The first `decayed` elements are weights.
extern "C" __global__ void adam(real* theta, const real* grad, real* mean, real* square,
                                int64 count, int64 decayed, double beta1, double beta2,
                                const real* rate_at, double rate, const real* epsilon_at,
                                double epsilon, const real* decay_at, double decay_value) {
  const Adam step = {real(beta1), real(1.0 - beta1), real(beta2), real(1.0 - beta2),
                     number(rate_at, rate), number(epsilon_at, epsilon)};
  const real decay = number(decay_at, decay_value);
  for (int64 k = first(); k < count; k += stride()) {
    real w = theta[k], m = mean[k], s = square[k];
    step(w, grad[k], m, s, k < decayed ? decay : real(0));
    theta[k] = w;
    mean[k] = m;
    square[k] = s;
  }
}

// --- the steps of a captured run -----------------------------------------------------------------

// The next step's scalars and rows to where every launch of a step finds them; one block.
// clock: the epoch's next step, its present one, and the present one of all training.
extern "C" __global__ void tick(int64* clock, const real* table, real* scalars, int64 width,
                                const int64* order, int64* rows, int64 m) {
  const int64 at = clock[0];
  for (int64 k = threadIdx.x; k < width; k += blockDim.x) scalars[k] = table[at * width + k];
  for (int64 k = threadIdx.x; k < m; k += blockDim.x) rows[k] = order[at * m + k];
  __syncthreads();  // all have read the clock
  if (threadIdx.x == 0) {
    clock[0] = at + 1;
    clock[1] = at;
    clock[2] += 1;
  }
}

// log[at] <- the sums of w values, of w where right, and of w; one block.
extern "C" __global__ void tally(const real* values, const bool* right, const real* weight,
                                 int64 rows, real* log, const int64* at, int64 at_value) {
  __shared__ real partial[3][WARP];
  real sums[3] = {0, 0, 0};
  for (int64 i = threadIdx.x; i < rows; i += blockDim.x) {
    const real w = weight ? weight[i] : real(1);
    sums[0] += w * values[i];
    sums[1] += right && right[i] ? w : real(0);
    sums[2] += w;
  }
  for (unsigned s = 0; s < 3; ++s) {
    sums[s] = warp_sum(sums[s]);
    if (lane() == 0) partial[s][threadIdx.x / WARP] = sums[s];
  }
  __syncthreads();
  if (threadIdx.x < 3) {
    real sum = 0;
    for (unsigned warp = 0; warp < blockDim.x / WARP; ++warp) sum += partial[threadIdx.x][warp];
    log[(at ? *at : at_value) * 3 + threadIdx.x] = sum;
  }
}

// The column of each row's largest element, the first of equals; a NaN counts as the largest.
extern "C" __global__ void argmax(const real* a, int64* out, int64 rows, int64 columns) {
  for (int64 i = first_row(); i < rows; i += row_stride()) {
    int64 best = lane() < columns ? lane() : 0;
    real most = a[i * columns + best];
    for (int64 j = best + WARP; j < columns; j += WARP) {
      const real value = a[i * columns + j];
      if (value > most || (value != value && most == most)) best = j, most = value;
    }
    for (unsigned other = WARP / 2; other > 0; other /= 2) {
      const real value = __shfl_xor_sync(FULL, most, other);
      const int64 column = __shfl_xor_sync(FULL, best, other);
      const bool equal = value == most || (value != value && most != most);
      const bool more = value > most || (value != value && most == most);
      if (more || (equal && column < best)) best = column, most = value;
    }
    if (lane() == 0) out[i] = best;
  }
}

// SplitMix64's finalizer, as in random.py.
__device__ inline uint64 mix(uint64 value) {
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ull;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBull;
  return value ^ (value >> 31);
}

// Which elements of a batch stay: those whose 53 random bits are below `limit`.
extern "C" __global__ void keep(bool* out, int64 count, int64 columns, int64 layer,
                                const int64* step_at, int64 step_value, int64 row, int64 limit) {
  const uint64 golden = 0x9E3779B97F4A7C15ull;
  const uint64 stream = mix(uint64(layer) + uint64(step_at ? *step_at : step_value) + golden);
  for (int64 k = first(); k < count; k += stride()) {
    const Place at(k, columns);
    const uint64 by_row = mix(uint64(row + 1 + at.row) * golden + stream);
    out[k] = int64(mix(by_row + uint64(at.column + 1) * golden) >> 11) < limit;
  }
}

// --- bias and activation -------------------------------------------------------------------------

// z <- z + the bias of the column, or of the channel, which has `each` elements of a row, and
// out <- sigma(z); where out is z, that alone.
template <typename Activation>
__device__ void bias(const real* b, real* z, real* out, int64 count, int64 columns, int64 each,
                     real own) {
  for (int64 k = first(); k < count; k += stride()) {
    const int64 of_all = each == 1 ? k : Place(k, each).row;
    const real value = z[k] + b[Place(of_all, columns).column];
    if (out != z) z[k] = value;
    out[k] = Activation::forward(value, own);
  }
}

#define BIAS(name, Activation)                                                                   \
  extern "C" __global__ void bias_##name(const real* b, real* z, real* out, int64 count,         \
                                         int64 columns, int64 each, double own) {                \
    bias<Activation>(b, z, out, count, columns, each, real(own));                                \
  }

BIAS(identity, Identity)
BIAS(sigmoid, Sigmoid)
BIAS(tanh, Tanh)
BIAS(relu, Relu)
BIAS(leaky_relu, LeakyRelu)
BIAS(elu, Elu)
BIAS(gelu, Gelu)
BIAS(silu, Silu)
BIAS(softplus, Softplus)
BIAS(exp, Exponential)

// --- products of 16-bit factors ------------------------------------------------------------------

// *most <- the bits of the largest magnitude, where it was 0. A maximum is the same in any order,
// so that atomics do no harm. NaN has more bits than infinity.
extern "C" __global__ void largest(const real* x, int64 count, unsigned* most) {
  float mine = 0;
  for (int64 k = first(); k < count; k += stride()) {
    const float value = fabsf(float(x[k]));
    mine = value > mine || value != value ? value : mine;
  }
  unsigned bits = __float_as_uint(mine);
  for (unsigned other = WARP / 2; other > 0; other /= 2) {
    const unsigned theirs = __shfl_xor_sync(FULL, bits, other);
    bits = theirs > bits ? theirs : bits;
  }
  if (lane() == 0) atomicMax(most, bits);
}

// The power of two that brings the largest magnitude to 2^14 or a little more: float16 ends at
// 65504, and its smallest normal number is 2^-14.
__device__ inline float scale_of(const unsigned* most) {
  const int exponent = int(*most >> 23) - 127;
  if (*most == 0 || exponent == 128) return 1.0f;
  return ldexpf(1.0f, exponent < -46 ? 60 : 14 - exponent);  // of subnormals it would overflow
}

// To the nearest, ties to even (after F. Giesen's float_to_half_fast3_rtne).
__device__ inline unsigned short float16_of(float value) {
  const unsigned bits = __float_as_uint(value), sign = (bits >> 16) & 0x8000u;
  unsigned rest = bits & 0x7fffffffu;
  if (rest >= 0x47800000u) return sign | (rest > 0x7f800000u ? 0x7e00u : 0x7c00u);
  if (rest < 0x38800000u) {  // a subnormal: the sum with 1/2 rounds at its last bit
    return sign | (__float_as_uint(__uint_as_float(rest) + 0.5f) - 0x3f000000u);
  }
  rest += 0xc8000fffu + ((rest >> 13) & 1u);
  return sign | (rest >> 13);
}

__device__ inline unsigned short bfloat16_of(float value) {
  const unsigned bits = __float_as_uint(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc0u;
  return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}

extern "C" __global__ void narrow_float16(const real* x, unsigned short* out, int64 count,
                                          const unsigned* most) {
  const float scale = scale_of(most);
  for (int64 k = first(); k < count; k += stride()) out[k] = float16_of(scale * float(x[k]));
}

extern "C" __global__ void narrow_bfloat16(const real* x, unsigned short* out, int64 count) {
  for (int64 k = first(); k < count; k += stride()) out[k] = bfloat16_of(float(x[k]));
}

// A product's two scalars, alpha without what its factors were scaled by; one block.
extern "C" __global__ void unscale(real* scalars, const unsigned* most_a, const unsigned* most_b,
                                   const real* alpha_at, double alpha_value, const real* beta_at,
                                   double beta_value) {
  if (threadIdx.x == 0) {
    // One after the other: their product may be 0.
    scalars[0] = number(alpha_at, alpha_value) / scale_of(most_a) / scale_of(most_b);
    scalars[1] = number(beta_at, beta_value);
  }
}

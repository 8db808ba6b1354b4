// Whole runs of training in one block, for networks that one multiprocessor's shared memory holds.
// Compiled together with kernels.cu, whose formulas it uses; the model is `steps` in _numba_steps.py.
//
// Between two barriers each thread writes elements that no other one reads or writes, so that the
// same run gives the same bits.

const unsigned MOST_THREADS = 4096 / sizeof(real);  // float has 64 registers a thread, double 128
const int MOST_LAYERS = 16;

extern __shared__ double dynamic[];  // laid out by `Memory`; its size is _cuda_run.elements

// A dense layer: where its weights and its bias (or -1) lie in theta, its activation by name, and
// where what comes into it lies in the batch's activations, for one row.
struct Layer {
  int into, out, weights, bias, activation, trained, at;
};

enum { IDENTITY, SIGMOID, TANH, RELU, SOFTMAX };  // _codes.ACTIVATIONS
enum { QUADRATIC, CROSS_ENTROPY, LOG_LIKELIHOOD };  // _codes.COSTS
enum { REGRESSION, CLASSIFICATION, MULTILABEL };  // _codes.TASKS
enum { INTO_THETA, INTO_VELOCITY, NESTEROV, RMSPROP, ADAM };  // _codes.RULES

__device__ inline real sigma(int activation, real z) {
  switch (activation) {
    case SIGMOID: return Sigmoid::forward(z);
    case TANH: return Tanh::forward(z);
    case RELU: return Relu::forward(z);
    default: return z;
  }
}

__device__ inline real slope(int activation, real a) {
  switch (activation) {
    case SIGMOID: return Sigmoid::slope(a, a);
    case TANH: return Tanh::slope(a, a);
    case RELU: return Relu::slope(a, a);
    default: return Identity::slope(a, a);
  }
}

__device__ inline real cost_row(int cost, int activation, const real* z, real* a, const real* y,
                                real* delta, int columns) {
  if (cost == CROSS_ENTROPY) return CrossEntropy::row(z, a, y, delta, columns);
  if (cost == LOG_LIKELIHOOD) return LogLikelihood::row(z, a, y, delta, columns);
  switch (activation) {
    case SIGMOID: return Quadratic<Sigmoid>::row(z, a, y, delta, columns);
    case TANH: return Quadratic<Tanh>::row(z, a, y, delta, columns);
    case RELU: return Quadratic<Relu>::row(z, a, y, delta, columns);
    default: return Quadratic<Identity>::row(z, a, y, delta, columns);
  }
}

// --- a warp of the block ----------------------------------------------------------------------

__device__ inline int warp() { return threadIdx.x / WARP; }
__device__ inline int warps() { return blockDim.x / WARP; }
__device__ inline int least(int a, int b) { return a < b ? a : b; }
__device__ inline int parts(int count, int size) { return (count + size - 1) / size; }

// Every lane has COUNT parts of sums; lane l is left with the whole of sum l * COUNT / 32. Half of
// what a lane has goes to its partner each time: COUNT shuffles and not 5 COUNT.
template <int COUNT>
__device__ real warp_sums(const real (&part)[COUNT], unsigned other = WARP / 2) {
  if constexpr (COUNT == 1) {
    real sum = part[0];
    for (; other > 0; other /= 2) sum += __shfl_xor_sync(FULL, sum, other);
    return sum;
  } else {
    const bool upper = lane() & other;
    real half[COUNT / 2];
#pragma unroll
    for (int t = 0; t < COUNT / 2; ++t) {
      const real low = part[t], high = part[t + COUNT / 2];
      half[t] = (upper ? high : low) + __shfl_xor_sync(FULL, upper ? low : high, other);
    }
    return warp_sums(half, other / 2);
  }
}

// The first column of a row's largest element.
__device__ inline unsigned row_argmax(const real* row, int columns) {
  const real largest = row_max(row, columns);
  unsigned found = columns;
  for (int j = columns - 1 - lane(); j >= 0; j -= WARP) found = row[j] == largest ? j : found;
  for (unsigned other = WARP / 2; other > 0; other /= 2) {
    const unsigned theirs = __shfl_xor_sync(FULL, found, other);
    found = theirs < found ? theirs : found;
  }
  return found;
}

__device__ inline bool is_right(int task, const real* a, const real* y, int columns) {
  if (task == CLASSIFICATION && columns > 1) {
    return row_argmax(a, columns) == row_argmax(y, columns);
  }
  real wrong = 0;
  for (int j = lane(); j < columns; j += WARP) wrong += (a[j] > real(0.5)) != (y[j] > real(0.5));
  return warp_sum(wrong) == real(0);
}

// Each warp adds up the same numbers in the same order, so that all threads have the same bits.
template <typename Value>
__device__ double sum_of_rows(int rows, Value value) {
  double sum = 0;
  for (int r = lane(); r < rows; r += WARP) sum += value(r);
  for (unsigned other = WARP / 2; other > 0; other /= 2) sum += __shfl_xor_sync(FULL, sum, other);
  return sum;
}

// --- products ---------------------------------------------------------------------------------
//
// Each lane has a tile in registers, so that a number from shared memory serves several products.
// Lanes read numbers side by side, or all the same one: no bank is asked for two. A float4 would
// bring no more bytes a cycle.

const int TILE = 4;

// a <- sigma(x w^T + b). A lane sums a part of the inputs; a warp has TILE rows by TILE outputs.
__device__ void forward(const Layer& layer, const real* theta, const real* x, int rows, real* a,
                        int activation) {
  const int across = parts(layer.out, TILE), tiles = parts(rows, TILE) * across;
  for (int tile = warp(); tile < tiles; tile += warps()) {
    const int top = tile / across * TILE, left = tile % across * TILE;
    const real *x_row[TILE], *w_row[TILE];
    real sums[TILE * TILE] = {};
#pragma unroll
    for (int t = 0; t < TILE; ++t) {
      x_row[t] = x + least(top + t, rows - 1) * layer.into;
      w_row[t] = theta + layer.weights + least(left + t, layer.out - 1) * layer.into;
    }
#pragma unroll 2
    for (int i = lane(); i < layer.into; i += WARP) {
      real w[TILE];
#pragma unroll
      for (int t = 0; t < TILE; ++t) w[t] = w_row[t][i];
#pragma unroll
      for (int r = 0; r < TILE; ++r) {
        const real value = x_row[r][i];
#pragma unroll
        for (int t = 0; t < TILE; ++t) sums[r * TILE + t] += value * w[t];
      }
    }
    const real sum = warp_sums(sums);
    const int mine = lane() * TILE * TILE / WARP, r = top + mine / TILE, j = left + mine % TILE;
    if (lane() % (WARP / (TILE * TILE)) == 0 && r < rows && j < layer.out) {
      const real z = layer.bias < 0 ? sum : sum + theta[layer.bias + j];
      a[r * layer.out + j] = sigma(activation, z);
    }
  }
}

// A lane's P rows, from `top`, of TILE columns 32 apart, from `left`, of a product: the sums over
// q of factor[p * p_step + q * q_step] right[q * columns + column]. What lies beyond an edge is
// read too, and what comes of it is not used: then two pointers are all that moves.
template <int P>
__device__ void outer(const real* factor, int p_step, int q_step, const real* right, int top,
                      int inner, int left, int columns, real (&sums)[P][TILE]) {
  factor += top * p_step;
  right += left + lane();
#pragma unroll 2
  for (int q = 0; q < inner; ++q, factor += q_step, right += columns) {
    real value[TILE];
#pragma unroll
    for (int c = 0; c < TILE; ++c) value[c] = right[c * WARP];
#pragma unroll
    for (int p = 0; p < P; ++p) {
      const real by = factor[p * p_step];
#pragma unroll
      for (int c = 0; c < TILE; ++c) sums[p][c] += by * value[c];
    }
  }
}

// delta of the layer below <- (delta w) sigma'(a) (BP2)
__device__ void backward_delta(const Layer& layer, const real* theta, const real* delta, int rows,
                               const real* a, int activation, real* below) {
  const int P = 2, columns = layer.into;
  const int across = parts(columns, TILE * WARP), tiles = parts(rows, P) * across;
  for (int tile = warp(); tile < tiles; tile += warps()) {
    const int top = tile / across * P, left = tile % across * TILE * WARP;
    real sums[P][TILE] = {};
    // The second row of the last pair may be beyond the batch: the first is read again then.
    const int step = top + 1 < rows ? layer.out : 0;
    outer(delta + top * layer.out, step, 1, theta + layer.weights, 0, layer.out, left, columns,
          sums);
#pragma unroll
    for (int p = 0; p < P; ++p) {
#pragma unroll
      for (int c = 0; c < TILE; ++c) {
        const int column = left + c * WARP + lane(), k = (top + p) * columns + column;
        if (top + p < rows && column < columns) below[k] = sums[p][c] * slope(activation, a[k]);
      }
    }
  }
}

// --- updates ----------------------------------------------------------------------------------

// From a sum over the batch to an element of theta, with u and v of the optimizer's slots. These
// are in global memory: they are asked for before the sum is made, and are there when it is.
struct Update {
  int rule, decayed;  // theta up to `decayed` is weights
  real *first, *second;
  double c0, c1;
  real mean;  // makes the mean of the sum
  real scale, scalars[4];  // of the step, see `scalars` in training/updates.py

  __device__ void at(const double* step, double share) {
    for (int i = 0; i < 4; ++i) scalars[i] = step[i];
    mean = share;
    scale = step[0] * share;
  }

  template <int SLOTS>
  __device__ void get(int k, real& u, real& v) const {
    if (SLOTS > 0) u = first[k];
    if (SLOTS > 1) v = second[k];
  }

  template <int SLOTS>
  __device__ void set(real& w, int k, real sum, real u, real v) const {
    const bool is_weight = k < decayed;
    const real kept = is_weight ? scalars[1] : scalars[2], gamma = is_weight ? scalars[3] : 0;
    const real g = mean * sum + gamma * w;  // gamma is that of the penalty, if not of a velocity
    if (SLOTS == 0) {
      w = kept * w + scale * sum;
    } else if (SLOTS == 2) {
      const Adam adam = {real(c0), real(1.0 - c0), real(c1), real(1.0 - c1), scalars[0],
                         scalars[1]};
      adam(w, g, u, v, is_weight ? scalars[2] : real(0));
    } else if (rule == INTO_VELOCITY) {
      u = kept * u + scale * sum + gamma * w;
      w += u;
    } else if (rule == NESTEROV) {
      const Momentum momentum = {real(c0), scalars[0], true};
      momentum(w, g, u);
    } else {
      const RMSprop rmsprop = {real(c0), real(1.0 - c0), scalars[0], real(c1)};
      rmsprop(w, g, u);
    }
    if (SLOTS > 0) first[k] = u;
    if (SLOTS > 1) second[k] = v;
  }
};

// The elements of a tile of the weights that are not beyond an edge.
template <typename Work>
__device__ inline void each_inside(const Layer& layer, int top, int left, Work work) {
#pragma unroll
  for (int p = 0; p < TILE; ++p) {
#pragma unroll
    for (int c = 0; c < TILE; ++c) {
      const int row = top + p, column = left + c * int(WARP) + int(lane());
      if (row < layer.out && column < layer.into) {
        work(p, c, layer.weights + row * layer.into + column);
      }
    }
  }
}

// The sums of delta^T x (BP4) and of delta (BP3), and with each of them the update. `turn` is the
// warp that begins, so that all have work when several layers are done one after another.
template <int SLOTS>
__device__ void backward_layer(const Layer& layer, const real* delta, const real* x, int rows,
                               real* theta, const Update& update, int& turn) {
  const int columns = layer.into;
  const int across = parts(columns, TILE * WARP), tiles = parts(layer.out, TILE) * across;
  for (int tile = (warp() + warps() - turn) % warps(); tile < tiles; tile += warps()) {
    const int top = tile / across * TILE, left = tile % across * TILE * WARP;
    real sums[TILE][TILE] = {}, u[TILE][TILE] = {}, v[TILE][TILE] = {};
    each_inside(layer, top, left,
                [&](int p, int c, int k) { update.get<SLOTS>(k, u[p][c], v[p][c]); });
    outer(delta, 1, layer.out, x, top, rows, left, columns, sums);
    each_inside(layer, top, left, [&](int p, int c, int k) {
      update.set<SLOTS>(theta[k], k, sums[p][c], u[p][c], v[p][c]);
    });
  }
  turn = (turn + tiles) % warps();
  if (layer.bias < 0) return;
  for (int j = threadIdx.x; j < layer.out; j += blockDim.x) {
    const int k = layer.bias + j;
    real sum = 0, u = 0, v = 0;
    update.get<SLOTS>(k, u, v);
    for (int r = 0; r < rows; ++r) sum += delta[r * layer.out + j];
    update.set<SLOTS>(theta[k], k, sum, u, v);
  }
}

// --- the run ----------------------------------------------------------------------------------

// The rows of x as they came; `kind` counts _cuda_run.SOURCES. Vectors are one number an input, in
// double precision, and so is what they scale.
struct Source {
  const void* at;
  int64 kind, row_stride, column_stride;
  const double *scales, *offsets;
  double scale, offset;

  // A warp has PARTS numbers a lane of a row, all of which are under way at once.
  template <typename Work, typename Type>
  __device__ void in(const int64* __restrict__ rows, real* __restrict__ out, int count,
                     int columns) const {
    const int PARTS = 8, across = parts(columns, PARTS * WARP), tiles = count * across;
    for (int tile = warp(); tile < tiles; tile += warps()) {
      const int r = tile / across, left = tile % across * PARTS * WARP + lane();
      const Type* __restrict__ row = static_cast<const Type*>(at) + rows[r] * row_stride;
      Type part[PARTS];
#pragma unroll
      for (int t = 0; t < PARTS; ++t) {
        part[t] = row[least(left + t * WARP, columns - 1) * column_stride];
      }
#pragma unroll
      for (int t = 0; t < PARTS; ++t) {
        const int j = left + t * WARP;
        if (j >= columns) continue;
        const double by = scales ? scales[j] : scale, plus = offsets ? offsets[j] : offset;
        out[r * columns + j] = affine<Work>(part[t], by, plus);
      }
    }
  }

  template <typename Type>
  __device__ void as(const int64* rows, real* out, int count, int columns) const {
    if (scales || offsets) {
      in<double, Type>(rows, out, count, columns);
    } else {
      in<typename Wider<Type>::type, Type>(rows, out, count, columns);
    }
  }

  __device__ void load(const int64* rows, real* out, int count, int columns) const {
    switch (kind) {
      case 0: return as<unsigned char>(rows, out, count, columns);
      case 1: return as<float>(rows, out, count, columns);
      default: return as<double>(rows, out, count, columns);
    }
  }
};

// Labels of one of two widths, or targets.
struct Truth {
  const int64* wide;
  const int* narrow;
  const real* targets;

  __device__ real operator()(int64 row, int j, int classes) const {
    if (targets) return targets[row * classes + j];
    return (wide ? wide[row] : int64(narrow[row])) == j ? real(1) : real(0);
  }
};

// Where all that a step needs lies in shared memory; `outer` may read a tile's width beyond it.
struct Memory {
  real *theta, *a, *delta, *z, *y, *weight, *value, *right;

  __device__ Memory(int parameters, int a_row, int outputs, int inputs, int m) {
    theta = reinterpret_cast<real*>(dynamic);
    a = theta + parameters;
    delta = a + m * a_row;  // of all but the inputs
    z = delta + m * (a_row - inputs);
    y = z + m * outputs;
    weight = y + m * outputs;
    value = weight + m;
    right = value + m;
  }
};

// `plan` has a `Layer` a row. `log` has a row a step, of the sums of cost, of right samples and of
// weight, and after them how many steps were done: all, or those before the first whose cost is
// not finite, of which nothing is written.
extern "C" __global__ void __launch_bounds__(MOST_THREADS)
run_steps(const int64* plan, int64 layers, int64 a_row, int64 m, real* theta, int64 parameters,
    real* first_slot, real* second_slot, int64 decayed, int64 rule, double c0, double c1,
    int64 cost, int64 task, const void* x, int64 kind, int64 row_stride, int64 column_stride,
    const double* scales, double scale, const double* offsets, double offset,
    const int64* labels, const int* narrow_labels, const real* targets, const real* weights,
    const int64* order, int64 count, int64 steps, const double* scalars, double* log) {
  __shared__ Layer net[MOST_LAYERS];
  for (int k = threadIdx.x; k < layers; k += blockDim.x) {
    const int64* row = plan + 7 * k;
    net[k].into = row[0], net[k].out = row[1], net[k].weights = row[2], net[k].bias = row[3];
    net[k].activation = row[4], net[k].trained = row[5], net[k].at = row[6];
  }
  __syncthreads();
  const int last = layers - 1, inputs = net[0].into, outputs = net[last].out;
  const Memory at(parameters, a_row, outputs, inputs, m);
  int lowest = 0;  // the first layer that is trained: no delta is wanted below
  while (lowest < layers && !net[lowest].trained) ++lowest;
  const Source source = {x, kind, row_stride, column_stride, scales, offsets, scale,
                         offset};
  const Truth truth = {labels, narrow_labels, targets};
  Update update = {int(rule), int(decayed), first_slot, second_slot, c0, c1};
  for (int k = threadIdx.x; k < parameters; k += blockDim.x) at.theta[k] = theta[k];

  int64 done = 0;
  for (; done < steps; ++done) {
    const int64 start = done * m;
    const int rows = count - start < m ? count - start : m;
    const int64* picked = order + start;
    source.load(picked, at.a, rows, inputs);
    for (int k = threadIdx.x; k < rows * outputs; k += blockDim.x) {
      at.y[k] = truth(picked[k / outputs], k % outputs, outputs);
    }
    for (int r = threadIdx.x; r < rows; r += blockDim.x) {
      at.weight[r] = weights ? weights[picked[r]] : real(1);
    }
    __syncthreads();

    for (int k = 0; k <= last; ++k) {
      real* out = k < last ? at.a + m * net[k + 1].at : at.z;
      const int activation = k < last ? net[k].activation : IDENTITY;
      forward(net[k], at.theta, at.a + m * net[k].at, rows, out, activation);
      __syncthreads();
    }

    double total = rows;
    if (weights) total = sum_of_rows(rows, [&](int r) { return double(at.weight[r]); });
    const int output = net[last].activation;
    real* top = at.delta + m * (net[last].at + net[last].into - inputs);
    real* a_top = at.a + m * (net[last].at + net[last].into);
    for (int r = warp(); r < rows; r += warps()) {
      const real *z = at.z + r * outputs, *y = at.y + r * outputs;
      real *a = a_top + r * outputs, *delta = top + r * outputs;
      const real value = cost_row(cost, output, z, a, y, delta, outputs);
      __syncwarp();  // other lanes read what this one wrote to a
      const real right = task == REGRESSION ? real(0) : real(is_right(task, a, y, outputs));
      if (weights) {
        const real share = total > 0 ? real(at.weight[r] / total) : real(0);
        for (int j = lane(); j < outputs; j += WARP) delta[j] *= share;
      }
      if (lane() == 0) at.value[r] = value, at.right[r] = right;
    }
    __syncthreads();

    const double costs = sum_of_rows(rows, [&](int r) {
      return double(at.weight[r]) * at.value[r];
    });
    const double rights = sum_of_rows(rows, [&](int r) {
      return double(at.weight[r]) * at.right[r];
    });
    if (!(fabs(costs) <= 1.7976931348623157e308)) break;  // all threads have the same sum
    if (threadIdx.x == 0) log[3 * done] = costs, log[3 * done + 1] = rights,
                          log[3 * done + 2] = total;

    for (int k = last; k > lowest; --k) {
      const int below = net[k - 1].activation;
      backward_delta(net[k], at.theta, at.delta + m * (net[k].at + net[k].into - inputs), rows,
                     at.a + m * net[k].at, below, at.delta + m * (net[k].at - inputs));
      __syncthreads();
    }
    update.at(scalars + 4 * done, weights ? 1.0 : 1.0 / rows);
    int turn = 0;
    for (int k = last; k >= lowest; --k) {
      if (!net[k].trained) continue;
      const real *delta = at.delta + m * (net[k].at + net[k].into - inputs);
      const real* a = at.a + m * net[k].at;
      if (rule == INTO_THETA) {
        backward_layer<0>(net[k], delta, a, rows, at.theta, update, turn);
      } else if (rule == ADAM) {
        backward_layer<2>(net[k], delta, a, rows, at.theta, update, turn);
      } else {
        backward_layer<1>(net[k], delta, a, rows, at.theta, update, turn);
      }
    }
    __syncthreads();
  }
  for (int k = threadIdx.x; k < parameters; k += blockDim.x) theta[k] = at.theta[k];
  if (threadIdx.x == 0) log[3 * steps] = done;
}

// Convolutions that read the windows where they lie, without patches. Compiled together with
// images.cu, of which the windows are.
//
// In each group of channels all three are a product of matrices, C <- A B. An index of the depth
// (the one that is summed over) and a row of A, or a column of B, each add something to an address;
// to that of B also something to a place on the plane, which may be in the padding. So a block
// works on a tile of C: it goes through the depth in steps, whose elements its threads bring to
// shared memory while those of the step before are multiplied. Each sum is one thread's, in the
// order of the depth, and nothing is written twice: the same bits every time.

namespace tiles {

const int ROWS = 32, COLUMNS = 64, DEPTH = 16;  // as _cuda.TILE
const int EACH = 4;                             // rows, and columns, of a thread
const int THREADS = ROWS / EACH * (COLUMNS / EACH);
const int PAD = 4;  // neighbours in a column in other banks, and rows as aligned as before

// What an index adds in B: to the address, and to the place on the plane.
struct Reach {
  int64 offset;
  int down, across;
};

// What an index of the depth adds, in A and in B; `left` is -1 beyond the end.
struct Depth {
  int64 left;
  Reach right;
};

// The rows and columns of C that follow (row, column), over the depth from `from` to `to`, which is
// beyond it. All threads of the block come here, with the same arguments.
template <typename Product>
__device__ void multiply(const Product& of, int64 row, int64 column, int64 from, int64 to) {
  alignas(16) __shared__ real left[DEPTH][ROWS + PAD];
  alignas(16) __shared__ real right[DEPTH][COLUMNS + PAD];
  __shared__ Depth depths[2][DEPTH];
  const int me = threadIdx.x;

  // A thread brings one depth of some rows of A, and some depths of one column of B.
  const int left_depth = me % DEPTH, left_row = me / DEPTH, left_by = THREADS / DEPTH;
  const int right_column = me % COLUMNS, right_depth = me / COLUMNS;
  const int right_by = THREADS / COLUMNS;
  real lefts[ROWS * DEPTH / THREADS], rights[COLUMNS * DEPTH / THREADS];
  const bool has_column = column + right_column < of.columns;
  const Reach reach = has_column ? of.column(column + right_column) : Reach{0, 0, 0};

  const auto look_up = [&](int64 start, Depth* found) {
    if (me >= DEPTH) return;
    found[me] = start + me < to ? of.depth(start + me) : Depth{-1, {0, 0, 0}};
  };
  const auto fetch = [&](const Depth* at) {
    const int64 offset = at[left_depth].left;
    for (int k = 0; k < ROWS * DEPTH / THREADS; ++k) {
      const int64 i = row + left_row + k * left_by;
      lefts[k] = offset >= 0 && i < of.rows ? of.a[i * of.a_row + offset] : real(0);
    }
    for (int k = 0; k < COLUMNS * DEPTH / THREADS; ++k) {
      const Depth& depth = at[right_depth + k * right_by];
      rights[k] = depth.left >= 0 && has_column ? of.read(depth.right, reach) : real(0);
    }
  };

  const int my_row = me / (COLUMNS / EACH) * EACH, my_column = me % (COLUMNS / EACH) * EACH;
  real sums[EACH][EACH] = {};
  int turn = 0;
  look_up(from, depths[turn]);
  __syncthreads();
  fetch(depths[turn]);
  look_up(from + DEPTH, depths[1 - turn]);
  for (int64 start = from; start < to; start += DEPTH, turn = 1 - turn) {
    __syncthreads();  // the step before is multiplied, and the next depths are there
    for (int k = 0; k < ROWS * DEPTH / THREADS; ++k) {
      left[left_depth][left_row + k * left_by] = lefts[k];
    }
    for (int k = 0; k < COLUMNS * DEPTH / THREADS; ++k) {
      right[right_depth + k * right_by][right_column] = rights[k];
    }
    __syncthreads();
    if (start + DEPTH < to) {
      fetch(depths[1 - turn]);
      look_up(start + 2 * DEPTH, depths[turn]);
    }
#pragma unroll
    for (int d = 0; d < DEPTH; ++d) {
#pragma unroll
      for (int i = 0; i < EACH; ++i) {
#pragma unroll
        for (int j = 0; j < EACH; ++j) {
          sums[i][j] += left[d][my_row + i] * right[d][my_column + j];
        }
      }
    }
  }

  for (int j = 0; j < EACH; ++j) {
    const int64 n = column + my_column + j;
    if (n >= of.columns) break;
    real* out = of.out(n);
    for (int i = 0; i < EACH; ++i) {
      if (row + my_row + i < of.rows) out[(row + my_row + i) * of.out_row] = sums[i][j];
    }
  }
}

// Samples; channels of the input and of the output in each of the groups.
struct Sizes {
  int64 samples, groups, into, of;
};

// Each tile of all groups, and of each of the parts that the depth is cut into: make(group, part)
// gives the product.
template <typename Make>
__device__ void all(int64 groups, int64 rows, int64 columns, int64 depth, int64 parts,
                    int64 a_part, Make make) {
  const int64 down = (rows + ROWS - 1) / ROWS, across = (columns + COLUMNS - 1) / COLUMNS;
  for (int64 tile = blockIdx.x; tile < groups * parts * down * across; tile += gridDim.x) {
    const Place at(tile, across), of(at.row, down), slab(of.row, parts);
    const int64 from = slab.column * a_part, to = from + a_part < depth ? from + a_part : depth;
    multiply(make(slab.row, slab.column), of.column * ROWS, at.column * COLUMNS, from, to);
  }
}

// What x is multiplied by, or what it multiplies: at an element of a channel's windows, and at a
// window of a sample.
struct Image {
  const real* x;  // the group's first channel of the first sample
  Windows windows;
  int64 a_sample;

  __device__ Reach element(int64 index) const {
    const Place of(index, windows.elements()), at(of.column, windows.across.size);
    return {of.row * windows.area(), int(at.row) * windows.down.dilation,
            int(at.column) * windows.across.dilation};
  }
  __device__ Reach window(int64 index) const {
    const Place of(index, windows.count()), at(of.column, windows.across.count);
    return {of.row * a_sample, windows.down.place(int(at.row), 0),
            windows.across.place(int(at.column), 0)};
  }
  __device__ real read(const Reach& one, const Reach& other) const {
    const int i = one.down + other.down, j = one.across + other.across;
    if (!windows.down.inside(i) || !windows.across.inside(j)) return 0;
    return x[one.offset + other.offset + int64(i) * windows.across.length + j];
  }
};

// out <- weights * x: a row an output channel, a column a window, the depth a window's elements.
struct Forward {
  Image image;
  const real* a;
  real* to;
  int64 rows, columns, a_row, out_row, a_sample;

  __device__ Depth depth(int64 index) const { return {index, image.element(index)}; }
  __device__ Reach column(int64 index) const { return image.window(index); }
  __device__ real read(const Reach& one, const Reach& other) const {
    return image.read(one, other);
  }
  __device__ real* out(int64 index) const {
    const Place at(index, out_row);
    return to + at.row * a_sample + at.column;
  }
};

// The gradient of the weights: a row an output channel, a column one of a window's elements, the
// depth all windows of all samples.
struct Weights {
  Image image;
  const real* a;
  real* to;
  int64 rows, columns, a_row, out_row, a_sample;

  __device__ Depth depth(int64 index) const {
    const Place at(index, a_row);
    return {at.row * a_sample + at.column, image.window(index)};
  }
  __device__ Reach column(int64 index) const { return image.element(index); }
  __device__ real read(const Reach& one, const Reach& other) const {
    return image.read(one, other);
  }
  __device__ real* out(int64 index) const { return to + index; }
};

// Back to the input: a row an input channel, a column a place of the image, the depth the elements
// of the output channels' windows.
struct Inputs {
  Windows windows;
  const real *a, *delta;
  real* to;
  int64 rows, columns, a_row, out_row, channel, delta_sample, a_sample;

  __device__ Depth depth(int64 index) const {
    const Place of(index, a_row), at(of.column, windows.across.size);
    return {of.row * channel + of.column,
            {of.row * windows.count(), -int(at.row) * windows.down.dilation,
             -int(at.column) * windows.across.dilation}};
  }
  __device__ Reach column(int64 index) const {
    const Place of(index, out_row), at(of.column, windows.across.length);
    return {of.row * delta_sample, int(at.row) + windows.down.before,
            int(at.column) + windows.across.before};
  }
  __device__ real read(const Reach& one, const Reach& other) const {
    const int i = windows.down.begun(one.down + other.down);
    const int j = windows.across.begun(one.across + other.across);
    if (i < 0 || j < 0) return 0;
    return delta[one.offset + other.offset + int64(i) * windows.across.count + j];
  }
  __device__ real* out(int64 index) const {
    const Place at(index, out_row);
    return to + at.row * a_sample + at.column;
  }
};

}  // namespace tiles

#define SIZES int64 samples, int64 groups, int64 into, int64 of

extern "C" __global__ void __launch_bounds__(tiles::THREADS)
    convolve(const real* x, const real* weights, real* out, SIZES, GEOMETRY) {
  const Windows windows = WINDOWS;
  const int64 area = windows.area(), count = windows.count(), depth = into * windows.elements();
  tiles::all(groups, of, samples * count, depth, 1, depth, [&](int64 group, int64) {
    const tiles::Image image = {x + group * into * area, windows, groups * into * area};
    return tiles::Forward{image, weights + group * of * depth, out + group * of * count,
                          of, samples * count, depth, count, groups * of * count};
  });
}

// `out` has a gradient for each part of the depth, `a_part` windows long.
extern "C" __global__ void __launch_bounds__(tiles::THREADS)
    convolve_weights(const real* x, const real* delta, real* out, int64 parts, int64 a_part,
                     SIZES, GEOMETRY) {
  const Windows windows = WINDOWS;
  const int64 area = windows.area(), count = windows.count(), row = into * windows.elements();
  tiles::all(groups, of, row, samples * count, parts, a_part, [&](int64 group, int64 part) {
    const tiles::Image image = {x + group * into * area, windows, groups * into * area};
    return tiles::Weights{image, delta + group * of * count,
                          out + (part * groups + group) * of * row,
                          of, row, count, row, groups * of * count};
  });
}

extern "C" __global__ void __launch_bounds__(tiles::THREADS)
    convolve_inputs(const real* delta, const real* weights, real* out, SIZES, GEOMETRY) {
  const Windows windows = WINDOWS;
  const int64 area = windows.area(), count = windows.count(), elements = windows.elements();
  const int64 depth = of * elements;
  tiles::all(groups, into, samples * area, depth, 1, depth, [&](int64 group, int64) {
    return tiles::Inputs{windows, weights + group * of * into * elements,
                         delta + group * of * count, out + group * into * area,
                         into, samples * area, elements, area, into * elements,
                         groups * of * count, groups * into * area};
  });
}

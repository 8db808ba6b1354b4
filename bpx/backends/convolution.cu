// Convolutions that read the windows where they lie, without patches. Compiled together with
// images.cu, of which the windows are.
//
// In each group of channels all three are a product of matrices, C <- A B. An index of the depth
// (the one that is summed over) and a row of A, or a column of B, each add something to an address;
// to that of B also something to a place on the plane, which may be in the padding. So a block
// works on a tile of C: it goes through the depth in steps, whose elements its threads bring to
// shared memory while those of the step before are multiplied. Each sum over a part of the depth is
// one thread's, in its order, and nothing is written twice: the same bits every time.

namespace tiles {

const int ROWS = 32, COLUMNS = 64, DEPTH = 16;  // as _cuda.TILE
const int EACH = 4;                             // rows, and columns, of a thread
const int THREADS = ROWS / EACH * (COLUMNS / EACH);
const int PAD = 4;  // neighbours in a column in other banks, and rows as aligned as before
const int FAR = -(1 << 30);  // on no plane, whatever is added: _cuda.geometry has shorter ones

// What an index adds in B: to the address, and to the place on the plane. In `Inputs` there is
// something only where the depth and the column left the same rests, of divisions by the stride.
struct Reach {
  int64 offset;
  int down, across, down_rest, across_rest;
};

// What an index of the depth adds, in B and in A; `left` is -1 beyond the end.
struct alignas(16) Depth {
  Reach right;
  int64 left;
};

__device__ inline Reach nowhere() { return {0, FAR, FAR, 0, 0}; }

// A channel's planes, one in each sample: of images or, in `Inputs`, of the windows' deltas.
struct Planes {
  const real* first;  // the group's first channel of the first sample
  int rows, columns;
  int64 a_sample;

  __device__ Reach at(int64 offset, int row, int column) const {
    return {offset + int64(row) * columns + column, row, column, 0, 0};
  }
  __device__ real read(const Reach& one, const Reach& other, bool there = true) const {
    const unsigned i = one.down + other.down, j = one.across + other.across;
    there &= (i < unsigned(rows)) & (j < unsigned(columns));  // nor below 0, which is large there
    return there ? first[one.offset + other.offset] : real(0);  // by one condition: no branches
  }
};

// What all three have: A, and where C goes; the rows of each follow one another at a distance.
struct Matrices {
  const real* a;
  real* to;
  int64 rows, columns, a_row, out_row;
};

// The rows and columns of C that follow (row, column), over the depth from `from` to `to`, which is
// beyond it. All threads of the block come here, with the same arguments.
template <typename Product>
__device__ void multiply(const Product& of, int64 row, int64 column, int64 from, int64 to) {
  static_assert(ROWS % DEPTH == 0 && DEPTH % EACH == 0, "`right` takes so many rows of C at last");
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
  const Reach reach = has_column ? of.column(column + right_column) : nowhere();
  const int rows = of.rows - row < ROWS ? int(of.rows - row) : ROWS;
  const real* a = of.a + (row + left_row) * of.a_row;

  const auto look_up = [&](int64 start, Depth* found) {
    if (me >= DEPTH) return;
    found[me] = start + me < to ? of.depth(start + me) : Depth{nowhere(), -1};
  };
  const auto fetch = [&](const Depth* at) {
    const int64 offset = at[left_depth].left;
    for (int k = 0; k < ROWS * DEPTH / THREADS; ++k) {
      const bool inside = (offset >= 0) & (left_row + k * left_by < rows);
      lefts[k] = inside ? a[k * left_by * of.a_row + offset] : real(0);
    }
    for (int k = 0; k < COLUMNS * DEPTH / THREADS; ++k) {
      rights[k] = of.read(at[right_depth + k * right_by].right, reach);
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

  // A thread's sums lie side by side, but neighbours should write to neighbours: by way of `right`.
  real* out = has_column ? of.out(column + right_column) + row * of.out_row : nullptr;
  for (int above = 0; above < rows; above += DEPTH) {
    __syncthreads();  // all have read what was there
    if (my_row >= above && my_row < above + DEPTH) {
      for (int i = 0; i < EACH; ++i) {
        for (int j = 0; j < EACH; ++j) right[my_row - above + i][my_column + j] = sums[i][j];
      }
    }
    __syncthreads();
    for (int i = right_depth; has_column && i < DEPTH && above + i < rows; i += right_by) {
      out[(above + i) * of.out_row] = right[i][right_column];
    }
  }
}

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
  Planes x;
  Windows windows;

  __device__ Reach element(int64 index) const {
    const Place of(index, windows.elements()), at(of.column, windows.across.size);
    return x.at(of.row * windows.area(), int(at.row) * windows.down.dilation,
                int(at.column) * windows.across.dilation);
  }
  __device__ Reach window(int64 index) const {
    const Place of(index, windows.count()), at(of.column, windows.across.count);
    return x.at(of.row * x.a_sample, windows.down.place(int(at.row), 0),
                windows.across.place(int(at.column), 0));
  }
  __device__ real read(const Reach& one, const Reach& other) const { return x.read(one, other); }
};

// Whose C is images: a row a channel, a column a place of a sample's planes.
struct ToImages : Matrices {
  int64 out_sample;

  __device__ real* out(int64 index) const {
    const Place at(index, out_row);
    return to + at.row * out_sample + at.column;
  }
};

// out <- weights * x: a row an output channel, a column a window, the depth a window's elements.
struct Forward : ToImages, Image {
  __device__ Depth depth(int64 index) const { return {element(index), index}; }
  __device__ Reach column(int64 index) const { return window(index); }
};

// The gradient of the weights: a row an output channel, a column one of a window's elements, the
// depth all windows of all samples.
struct Weights : Matrices, Image {
  int64 delta_sample;

  __device__ Depth depth(int64 index) const {
    const Place at(index, a_row);
    return {window(index), at.row * delta_sample + at.column};
  }
  __device__ Reach column(int64 index) const { return element(index); }
  __device__ real* out(int64 index) const { return to + index; }
};

// Back to the input: a row an input channel, a column a place of the image, the depth the elements
// of the output channels' windows. The window that has a place as that element of it begins the
// element's distance before it, and a multiple of the stride from the edge. So both are divided by
// the stride once, not their difference each time: it is a multiple if they leave the same rest.
struct Inputs : ToImages {
  Planes delta;
  Windows windows;
  int64 channel;

  __device__ Depth depth(int64 index) const {
    const Place of(index, a_row), at(of.column, windows.across.size);
    const Place down(at.row * windows.down.dilation, windows.down.stride);
    const Place across(at.column * windows.across.dilation, windows.across.stride);
    Reach right = delta.at(of.row * windows.count(), -int(down.row), -int(across.row));
    right.down_rest = int(down.column), right.across_rest = int(across.column);
    return {right, of.row * channel + of.column};
  }
  __device__ Reach column(int64 index) const {
    const Place of(index, out_row), at(of.column, windows.across.length);
    const Place down(at.row + windows.down.before, windows.down.stride);
    const Place across(at.column + windows.across.before, windows.across.stride);
    Reach found = delta.at(of.row * delta.a_sample, int(down.row), int(across.row));
    found.down_rest = int(down.column), found.across_rest = int(across.column);
    return found;
  }
  __device__ real read(const Reach& one, const Reach& other) const {
    return delta.read(one, other, (one.down_rest == other.down_rest) &
                                      (one.across_rest == other.across_rest));
  }
};

__device__ inline Image image(const real* x, const Windows& windows, int64 group, int64 groups,
                              int64 into) {
  const int64 channels = into * windows.area();
  return {{x + group * channels, windows.down.length, windows.across.length, groups * channels},
          windows};
}

}  // namespace tiles

#define SIZES int64 parts, int64 a_part, int64 samples, int64 groups, int64 into, int64 of

// `out` has a result for each of the parts of the depth, that are `a_part` long.

extern "C" __global__ void __launch_bounds__(tiles::THREADS)
    convolve(const real* x, const real* weights, real* out, SIZES, GEOMETRY) {
  const Windows windows = WINDOWS;
  const int64 count = windows.count(), depth = into * windows.elements();
  tiles::all(groups, of, samples * count, depth, parts, a_part, [&](int64 group, int64 part) {
    return tiles::Forward{{{weights + group * of * depth,
                            out + (part * samples * groups + group) * of * count,
                            of, samples * count, depth, count},
                           groups * of * count},
                          tiles::image(x, windows, group, groups, into)};
  });
}

extern "C" __global__ void __launch_bounds__(tiles::THREADS)
    convolve_weights(const real* x, const real* delta, real* out, SIZES, GEOMETRY) {
  const Windows windows = WINDOWS;
  const int64 count = windows.count(), row = into * windows.elements();
  tiles::all(groups, of, row, samples * count, parts, a_part, [&](int64 group, int64 part) {
    return tiles::Weights{{delta + group * of * count, out + (part * groups + group) * of * row,
                           of, row, count, row},
                          tiles::image(x, windows, group, groups, into),
                          groups * of * count};
  });
}

extern "C" __global__ void __launch_bounds__(tiles::THREADS)
    convolve_inputs(const real* delta, const real* weights, real* out, SIZES, GEOMETRY) {
  const Windows windows = WINDOWS;
  const int64 area = windows.area(), count = windows.count(), elements = windows.elements();
  const int64 depth = of * elements;
  tiles::all(groups, into, samples * area, depth, parts, a_part, [&](int64 group, int64 part) {
    const tiles::Planes deltas = {delta + group * of * count, windows.down.count,
                                  windows.across.count, groups * of * count};
    return tiles::Inputs{{{weights + group * depth * into,
                           out + (part * samples * groups + group) * into * area,
                           into, samples * area, elements, area},
                          groups * into * area},
                         deltas, windows, into * elements};
  });
}

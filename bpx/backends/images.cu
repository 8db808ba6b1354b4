// Images, and windows that slide over them. Compiled together with kernels.cu.
//
// A plane is one channel of one sample. The windows are those of layers/sliding.py, the order of
// each sum is that of the standard kernel, and so are its bits. A thread writes what nobody else
// writes: where windows overlap, each element of the image gathers from all that have it.

// Windows along one axis; a sequence is an image of one row.
struct Axis {
  int length, size, stride, dilation, before, count;

  // Where an element of a window lies: on the image, or in the padding, beyond its ends.
  __device__ int place(int window, int element) const {
    return window * stride + element * dilation - before;
  }
  __device__ bool inside(int place) const { return 0 <= place && place < length; }

  // Of which window this place is the element; -1 if of none.
  __device__ int window(int place, int element) const {
    const int from = place + before - element * dilation;
    if (from < 0) return -1;
    const int found = stride == 1 ? from : from / stride;
    return found < count && found * stride == from ? found : -1;
  }
};

// An element of a plane, or one of its windows.
struct Spot {
  int64 plane;
  int row, column;
  __device__ Spot(int64 index, int rows, int columns) {
    const Place of(index, int64(rows) * columns), in(of.column, columns);
    plane = of.row, row = int(in.row), column = int(in.column);
  }
};

struct Windows {
  Axis down, across;

  __device__ int64 area() const { return int64(down.length) * across.length; }
  __device__ int64 count() const { return int64(down.count) * across.count; }
  __device__ int64 elements() const { return int64(down.size) * across.size; }

  // A window's elements in order: visit(element, its place in the plane, or -1 in the padding).
  template <typename Visit>
  __device__ void of_window(int row, int column, Visit visit) const {
    int64 element = 0;
    for (int u = 0; u < down.size; ++u) {
      const int i = down.place(row, u);
      for (int v = 0; v < across.size; ++v, ++element) {
        const int j = across.place(column, v);
        const bool inside = down.inside(i) && across.inside(j);
        visit(element, inside ? int64(i) * across.length + j : int64(-1));
      }
    }
  }

  // The windows that a place is in, by which of their elements it is: visit(element, row, column).
  template <typename Visit>
  __device__ void of_place(const Spot& at, Visit visit) const {
    int64 element = 0;
    for (int u = 0; u < down.size; ++u) {
      const int i = down.window(at.row, u);
      for (int v = 0; v < across.size; ++v, ++element) {
        const int j = across.window(at.column, v);
        if (i >= 0 && j >= 0) visit(element, i, j);
      }
    }
  }
};

// Twelve arguments of a kernel, as _cuda.geometry gives them, and what is made of them.
#define AXIS(name)                                                                               \
  int64 name##_length, int64 name##_size, int64 name##_stride, int64 name##_dilation,            \
      int64 name##_before, int64 name##_count
#define MADE(name)                                                                               \
  {int(name##_length), int(name##_size), int(name##_stride), int(name##_dilation),               \
   int(name##_before), int(name##_count)}
#define GEOMETRY AXIS(down), AXIS(across)
#define WINDOWS {MADE(down), MADE(across)}

// --- a thread a window, which works beside its neighbours at each of its elements ----------------

extern "C" __global__ void patches(const real* x, real* out, int64 count, GEOMETRY) {
  const Windows windows = WINDOWS;
  const int64 area = windows.area(), of_plane = windows.count();
  for (int64 k = first(); k < count; k += stride()) {
    const Spot at(k, windows.down.count, windows.across.count);
    const real* plane = x + at.plane * area;
    real* to = out + at.plane * (windows.elements() - 1) * of_plane + k;
    windows.of_window(at.row, at.column, [&](int64 element, int64 place) {
      to[element * of_plane] = place < 0 ? real(0) : plane[place];
    });
  }
}

extern "C" __global__ void window_sum(const real* x, real* out, int64 count, GEOMETRY) {
  const Windows windows = WINDOWS;
  for (int64 k = first(); k < count; k += stride()) {
    const Spot at(k, windows.down.count, windows.across.count);
    const real* plane = x + at.plane * windows.area();
    real sum = 0;
    windows.of_window(at.row, at.column, [&](int64, int64 place) {
      if (place >= 0) sum += plane[place];
    });
    out[k] = sum;
  }
}

extern "C" __global__ void window_max(const real* x, real* out, int64 count, GEOMETRY) {
  const Windows windows = WINDOWS;
  for (int64 k = first(); k < count; k += stride()) {
    const Spot at(k, windows.down.count, windows.across.count);
    const real* plane = x + at.plane * windows.area();
    real largest = -real(__uint_as_float(0x7f800000u));  // infinity
    windows.of_window(at.row, at.column, [&](int64, int64 place) {
      if (place < 0) return;
      const real value = plane[place];
      largest = value > largest || value != value ? value : largest;  // NaN stays
    });
    out[k] = largest;
  }
}

// --- a thread an element of the image -----------------------------------------------------------

// `of_plane` and `of_element` are the steps in `patches` from one to the next; the latter is 0
// where all elements of a window have the same.
extern "C" __global__ void fold(const real* patches, real* out, int64 count, int64 of_plane,
                                int64 of_element, GEOMETRY) {
  const Windows windows = WINDOWS;
  for (int64 k = first(); k < count; k += stride()) {
    const Spot at(k, windows.down.length, windows.across.length);
    const real* from = patches + at.plane * of_plane;
    real sum = 0;
    windows.of_place(at, [&](int64 element, int row, int column) {
      sum += from[element * of_element + int64(row) * windows.across.count + column];
    });
    out[k] = sum;
  }
}

// A window's delta belongs to the first of its largest elements; to none where that is NaN.
extern "C" __global__ void window_max_backward(const real* delta, const real* x,
                                               const real* largest, real* out, int64 count,
                                               GEOMETRY) {
  const Windows windows = WINDOWS;
  for (int64 k = first(); k < count; k += stride()) {
    const Spot at(k, windows.down.length, windows.across.length);
    const real* plane = x + at.plane * windows.area();
    const int64 of_plane = at.plane * windows.count();
    const real mine = x[k];
    real sum = 0;
    windows.of_place(at, [&](int64 element, int row, int column) {
      const int64 window = of_plane + int64(row) * windows.across.count + column;
      bool is_first = mine == largest[window];
      if (!is_first) return;
      windows.of_window(row, column, [&](int64 other, int64 place) {
        if (other < element && place >= 0 && plane[place] == mine) is_first = false;
      });
      if (is_first) sum += delta[window];
    });
    out[k] = sum;
  }
}

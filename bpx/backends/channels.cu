// Normalization: by numbers for each channel, axis 1 of (rows, channels, each), which are sums over
// the others, and by numbers for each row. Compiled together with kernels.cu.

#define SIZES_OF_CHANNELS int64 rows, int64 channels, int64 each

// --- sums: a block a part of a channel ----------------------------------------------------------

// out <- N sums, (parts, N, channels): load(channel, place, values) gives what is at a place. Four
// places at once: one after another, each load would wait for the addition before it.
template <int N, typename Load>
__device__ void sum_parts(real* out, SIZES_OF_CHANNELS, int64 parts, Load load) {
  if (each == 1) {  // a channel is a column: its places are far apart
    sum_columns<N>(rows, channels, parts, load, [&](int64 k, real sum) { out[k] = sum; });
    return;
  }
  __shared__ real partial[N][WARP];
  const int64 step = parts * blockDim.x;
  const Place by(step, each);  // a division at each element would take longer than to load it
  for (int64 k = blockIdx.x; k < channels * parts; k += gridDim.x) {
    const Place of(k, channels);
    real sums[N] = {};
    const int64 begin = of.row * blockDim.x + threadIdx.x;
    Place at(begin, each);
    for (int64 j = begin; j < rows * each; j += 4 * step) {
      real values[4][N];
      bool there[4];
#pragma unroll
      for (int t = 0; t < 4; ++t) {
        const int64 place = (at.row * channels + of.column) * each + at.column;
        there[t] = at.row < rows;
        load(of.column, there[t] ? place : of.column * each, values[t]);  // or its first place
        at.row += by.row, at.column += by.column;
        if (at.column >= each) ++at.row, at.column -= each;
      }
#pragma unroll
      for (int t = 0; t < 4; ++t) {
        for (int n = 0; n < N; ++n) sums[n] += there[t] ? values[t][n] : real(0);
      }
    }
    for (int n = 0; n < N; ++n) {
      sums[n] = warp_sum(sums[n]);
      if (lane() == 0) partial[n][threadIdx.x / WARP] = sums[n];
    }
    __syncthreads();
    if (threadIdx.x < N) {
      real sum = 0;
      for (unsigned w = 0; w < blockDim.x / WARP; ++w) sum += partial[threadIdx.x][w];
      out[(of.row * N + threadIdx.x) * channels + of.column] = sum;
    }
    __syncthreads();  // the next part writes over `partial`
  }
}

extern "C" __global__ void __launch_bounds__(1024)
    sum_channels(const real* x, real* out, SIZES_OF_CHANNELS, int64 parts) {
  sum_parts<1>(out, rows, channels, each, parts, [&](int64, int64 place, real* values) {
    values[0] = x[place];
  });
}

// Of x - mean, and of its square.
extern "C" __global__ void __launch_bounds__(1024)
    moments(const real* x, const real* mean, real* out, SIZES_OF_CHANNELS, int64 parts) {
  sum_parts<2>(out, rows, channels, each, parts, [&](int64 channel, int64 place, real* values) {
    const real apart = x[place] - mean[channel];
    values[0] = apart;
    values[1] = apart * apart;
  });
}

// Of delta normal, and of delta.
extern "C" __global__ void __launch_bounds__(1024)
    normalize_sums(const real* delta, const real* normal, real* out, SIZES_OF_CHANNELS,
                   int64 parts) {
  sum_parts<2>(out, rows, channels, each, parts, [&](int64, int64 place, real* values) {
    values[0] = delta[place] * normal[place];
    values[1] = delta[place];
  });
}

// --- a thread a channel --------------------------------------------------------------------------

// From a mean and the moments about it to the numbers of normalize; the running ones follow.
extern "C" __global__ void batch_statistics(const real* mean, const real* sums, real* running_mean,
                                            real* running_variance, const real* scale,
                                            const real* shift, real* out, int64 channels, double n,
                                            double momentum, double epsilon) {
  const real old = real(1 - momentum), share = real(momentum), unbiased = real(n / (n - 1));
  for (int64 k = first(); k < channels; k += stride()) {
    const real left = sums[k] / real(n);
    real variance = sums[channels + k] / real(n) - left * left;
    if (variance < real(0)) variance = 0;  // a NaN stays
    running_mean[k] = old * running_mean[k] + share * (mean[k] + left);
    running_variance[k] = old * running_variance[k] + share * (variance * unbiased);
    out[k] = mean[k];
    out[channels + k] = left;
    out[2 * channels + k] = real(1) / sqrt(variance + real(epsilon));
    out[3 * channels + k] = scale[k];
    out[4 * channels + k] = shift[k];
  }
}

// --- a thread an element ------------------------------------------------------------------------

// In which channel an element is.
__device__ inline int64 channel_of(int64 element, int64 channels, int64 each) {
  return Place(Place(element, each).row, channels).column;
}

// `numbers` has five rows: the mean in two summands, what to multiply by, scale and shift.
extern "C" __global__ void normalize(const real* x, const real* numbers, real* normal, real* out,
                                     SIZES_OF_CHANNELS) {
  for (int64 k = first(); k < rows * channels * each; k += stride()) {
    const real* of = numbers + channel_of(k, channels, each);
    const real scale = of[3 * channels], shift = of[4 * channels];  // before a write: see adam
    const real value = (x[k] - of[0] - of[channels]) * of[2 * channels];
    normal[k] = value;
    out[k] = value * scale + shift;
  }
}

extern "C" __global__ void normalize_backward(real* delta, const real* normal, const real* means,
                                              const real* factor, SIZES_OF_CHANNELS) {
  for (int64 k = first(); k < rows * channels * each; k += stride()) {
    const int64 channel = channel_of(k, channels, each);
    const real left = delta[k] - means[channel] * normal[k] - means[channels + channel];
    delta[k] = factor[channel] * left;
  }
}

// --- a warp a row -------------------------------------------------------------------------------

// Of each row: normal <- (x - mean) slope, slope <- 1 / sqrt(variance + epsilon), and
// out <- scale normal + shift. The mean is found twice, from x and from what it leaves; `out` may
// be x.
extern "C" __global__ void layer_norm(const real* x, const real* scale, const real* shift,
                                      real* slope, real* normal, real* out, int64 rows,
                                      int64 columns, double epsilon) {
  const real n = real(columns);
  for (int64 i = first_row(); i < rows; i += row_stride()) {
    const int64 start = i * columns;
    real sum = 0, left = 0, square = 0;
    for (int64 j = lane(); j < columns; j += WARP) sum += x[start + j];
    const real mean = warp_sum(sum) / n;
    for (int64 j = lane(); j < columns; j += WARP) {
      const real apart = x[start + j] - mean;
      left += apart;
      square += apart * apart;
    }
    left = warp_sum(left) / n;
    real variance = warp_sum(square) / n - left * left;
    if (variance < real(0)) variance = 0;  // a NaN stays
    const real by = real(1) / sqrt(variance + real(epsilon));
    if (lane() == 0) slope[i] = by;
    for (int64 j = lane(); j < columns; j += WARP) {
      const real value = (x[start + j] - mean - left) * by, stretched = value * scale[j] + shift[j];
      normal[start + j] = value;
      out[start + j] = stretched;
    }
  }
}

// delta <- slope (scale delta - normal mean(scale delta normal) - mean(scale delta)), of each row
extern "C" __global__ void layer_norm_backward(real* delta, const real* normal, const real* scale,
                                               const real* slope, int64 rows, int64 columns) {
  for (int64 i = first_row(); i < rows; i += row_stride()) {
    const int64 start = i * columns;
    real along = 0, sum = 0;
    for (int64 j = lane(); j < columns; j += WARP) {
      const real value = delta[start + j] * scale[j];
      along += value * normal[start + j];
      sum += value;
    }
    along = warp_sum(along) / real(columns);
    sum = warp_sum(sum) / real(columns);
    for (int64 j = lane(); j < columns; j += WARP) {
      const real left = delta[start + j] * scale[j] - normal[start + j] * along - sum;
      delta[start + j] = left * slope[i];
    }
  }
}

// What CUDA gives a kernel, for a C++ compiler: enough to run kernels.cu on the host, block after
// block. How the threads of a block run is in cuda_coroutines.h, or in cuda_threads.h.
//
// Shared memory can be static since blocks run one after another; the memory of a size that the
// launch gives is `dynamic`.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tuple>
#include <utility>

#define __device__
#define __global__
#define __shared__ static
#define __launch_bounds__(threads)

struct Dimension {
  unsigned x;
};
static Dimension gridDim, blockDim, blockIdx;

static double dynamic[227 * 1024 / sizeof(double)];

namespace host {

const unsigned WARP = 32, MOST = 1024;  // threads of a block

static void (*task)(void*);
static void* task_data;

[[noreturn]] static void fail(const char* why) {
  fprintf(stderr, "kernels.cu on the host: %s\n", why);
  abort();
}

}  // namespace host

#include THREADS  // threadIdx, the barriers of_block and of_warp, run_block

namespace host {

static char lanes[MOST][16];

// --- launches -------------------------------------------------------------------------------

template <typename... P, size_t... I>
void call(void (*kernel)(P...), void** arguments, std::index_sequence<I...>) {
  kernel(*static_cast<P*>(arguments[I])...);
}

template <typename... P>
void launch(void (*kernel)(P...), unsigned blocks, unsigned a_block, void** arguments) {
  auto body = [&] { call(kernel, arguments, std::index_sequence_for<P...>()); };
  task = [](void* data) { (*static_cast<decltype(body)*>(data))(); };
  task_data = &body;
  gridDim.x = blocks;
  blockDim.x = a_block;
  if (a_block > MOST || a_block % WARP != 0) fail("a block of a size that this does not run");
  for (unsigned b = 0; b < blocks; ++b) {
    blockIdx.x = b;
    run_block();
  }
}

}  // namespace host

static inline void __syncthreads() { host::of_block.wait(blockDim.x); }

static inline void __syncwarp() { host::of_warp[threadIdx.x / host::WARP].wait(host::WARP); }

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, unsigned other) {
  if (mask != 0xffffffffu) host::fail("a shuffle of a part of a warp");
  const unsigned me = threadIdx.x;
  host::Barrier& warp = host::of_warp[me / host::WARP];
  memcpy(host::lanes[me], &value, sizeof value);
  warp.wait(host::WARP);
  memcpy(&value, host::lanes[me ^ other], sizeof value);
  warp.wait(host::WARP);
  return value;
}

static inline unsigned __ballot_sync(unsigned mask, int yes) {
  if (mask != 0xffffffffu) host::fail("a ballot of a part of a warp");
  const unsigned me = threadIdx.x, start = me / host::WARP * host::WARP;
  host::Barrier& warp = host::of_warp[me / host::WARP];
  host::lanes[me][0] = yes != 0;
  warp.wait(host::WARP);
  unsigned bits = 0;
  for (unsigned k = 0; k < host::WARP; ++k) bits |= unsigned(host::lanes[start + k][0]) << k;
  warp.wait(host::WARP);
  return bits;
}

static inline int __ffs(unsigned bits) { return __builtin_ffs(int(bits)); }

static inline float __uint_as_float(unsigned bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static inline unsigned __float_as_uint(float value) {
  unsigned bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline unsigned atomicMax(unsigned* at, unsigned value) {
  unsigned old = __atomic_load_n(at, __ATOMIC_RELAXED);
  while (value > old && !__atomic_compare_exchange_n(at, &old, value, false, __ATOMIC_RELAXED,
                                                     __ATOMIC_RELAXED)) {
  }
  return old;
}

// What CUDA gives a kernel, for a C++ compiler: enough to run kernels.cu on the host, block after
// block. How the threads of a block run is in cuda_coroutines.h, or in cuda_threads.h.
//
// Shared memory can be static since blocks run one after another; the memory of a size that the
// launch gives is `dynamic`, with a page behind it that nothing may touch.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

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

static double* dynamic;

namespace host {

const unsigned WARP = 32, MOST = 1024;  // threads of a block

static void (*task)(void*);
static void* task_data;

[[noreturn]] static void fail(const char* why) {
  fprintf(stderr, "kernels.cu on the host: %s\n", why);
  abort();
}

}  // namespace host

#include THREADS  // threadIdx, the barriers of_block and of_warp, meet, run_block

namespace host {

// What lanes show each other, in a way that orders nothing else: nor does a shuffle of CUDA's.
static unsigned long long shown[MOST][2];

template <typename T>
void show(const T& value) {
  unsigned long long words[2] = {};
  memcpy(words, &value, sizeof value);
  for (int k = 0; k < 2; ++k) {
    __atomic_store_n(&shown[threadIdx.x][k], words[k], __ATOMIC_RELAXED);
  }
}

template <typename T>
T shown_by(unsigned thread) {
  unsigned long long words[2];
  for (int k = 0; k < 2; ++k) words[k] = __atomic_load_n(&shown[thread][k], __ATOMIC_RELAXED);
  T value;
  memcpy(&value, words, sizeof value);
  return value;
}


// --- launches -------------------------------------------------------------------------------

template <typename... P, size_t... I>
void call(void (*kernel)(P...), void** arguments, std::index_sequence<I...>) {
  kernel(*static_cast<P*>(arguments[I])...);
}

// `dynamic` of so many bytes, up to the page that nothing may touch.
static double* shared_memory(size_t bytes) {
  const size_t most = 256 << 10, guard = 64 << 10;  // whole pages, however large they are
  static char* start = nullptr;
  if (start == nullptr) {
    void* memory = mmap(nullptr, most + guard, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    start = static_cast<char*>(memory);
    if (memory == MAP_FAILED || mprotect(start + most, guard, PROT_NONE) != 0) fail("no memory");
  }
  const size_t aligned = (bytes + sizeof(double) - 1) / sizeof(double) * sizeof(double);
  if (aligned > most) fail("more shared memory than there is");
  return reinterpret_cast<double*>(start + most - aligned);
}

template <typename... P>
void launch(void (*kernel)(P...), unsigned blocks, unsigned a_block, unsigned shared,
            void** arguments) {
  dynamic = shared_memory(shared);
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
  host::show(value);
  host::meet();
  const T theirs = host::shown_by<T>(threadIdx.x ^ other);
  host::meet();
  return theirs;
}

static inline unsigned __ballot_sync(unsigned mask, int yes) {
  if (mask != 0xffffffffu) host::fail("a ballot of a part of a warp");
  host::show(yes != 0);
  host::meet();
  const unsigned start = threadIdx.x / host::WARP * host::WARP;
  unsigned bits = 0;
  for (unsigned k = 0; k < host::WARP; ++k) bits |= unsigned(host::shown_by<bool>(start + k)) << k;
  host::meet();
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

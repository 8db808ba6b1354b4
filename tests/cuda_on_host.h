// What CUDA gives a kernel, for a C++ compiler: enough to run kernels.cu on the host, block after
// block, each thread of a block on a stack of its own.
//
// A thread runs until it waits at a barrier, then the next one does. Shared memory can be static
// since blocks run one after another; the memory of a size that the launch gives is `dynamic`.

#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <tuple>
#include <utility>

#define __device__
#define __global__
#define __shared__ static
#define __launch_bounds__(threads)

struct Dimension {
  unsigned x;
};
static Dimension gridDim, blockDim, blockIdx, threadIdx;

static double dynamic[227 * 1024 / sizeof(double)];

namespace host {

const unsigned WARP = 32, MOST = 1024;  // threads of a block

// --- threads --------------------------------------------------------------------------------

struct Thread {
  enum { FRESH, RUNNING, DONE } state = FRESH;
  bool made = false;
  ucontext_t start;
  jmp_buf at;  // a jump is some hundred times faster than swapcontext, which asks the kernel
  char stack[16 * 1024];
};

static Thread threads[MOST];
static jmp_buf scheduler;
static bool progress, backwards;  // in which order threads run between two barriers
static void (*task)(void*);
static void* task_data;

[[noreturn]] static void fail(const char* why) {
  fprintf(stderr, "kernels.cu on the host: %s\n", why);
  abort();
}

static void leave() {
  if (_setjmp(threads[threadIdx.x].at) == 0) _longjmp(scheduler, 1);
}

// A thread's stack serves one block after another.
static void forever() {
  for (;;) {
    const unsigned me = threadIdx.x;
    task(task_data);
    threadIdx.x = me;
    threads[me].state = Thread::DONE;
    progress = true;
    leave();
  }
}

static void resume(unsigned index) {
  Thread& thread = threads[index];
  threadIdx.x = index;
  if (_setjmp(scheduler) != 0) return;
  if (thread.made) _longjmp(thread.at, 1);
  thread.made = true;
  getcontext(&thread.start);
  thread.start.uc_stack.ss_sp = thread.stack;
  thread.start.uc_stack.ss_size = sizeof thread.stack;
  thread.start.uc_link = nullptr;
  makecontext(&thread.start, forever, 0);
  setcontext(&thread.start);
}

static void run_block() {
  for (unsigned t = 0; t < blockDim.x; ++t) threads[t].state = Thread::RUNNING;
  for (unsigned running = blockDim.x; running > 0;) {
    progress = false;
    running = 0;
    for (unsigned i = 0; i < blockDim.x; ++i) {
      const unsigned t = backwards ? blockDim.x - 1 - i : i;
      if (threads[t].state == Thread::RUNNING) resume(t);
      running += threads[t].state == Thread::RUNNING;
    }
    if (running > 0 && !progress) fail("some threads wait for others that never come");
  }
}

// --- barriers -------------------------------------------------------------------------------

struct Barrier {
  unsigned arrived = 0, round = 0;

  void wait(unsigned members) {
    if (++arrived == members) {
      arrived = 0;
      ++round;
      progress = true;
      return;
    }
    for (const unsigned mine = round; round == mine;) leave();
  }
};

static Barrier of_block, of_warp[MOST / WARP];
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

extern "C" void run_backwards(unsigned yes) { host::backwards = yes; }

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
  const unsigned old = *at;
  if (value > old) *at = value;
  return old;
}

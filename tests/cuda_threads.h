// A block's threads for cuda_on_host.h as threads of the host, all at once, which ThreadSanitizer
// watches: two that touch the same memory without a barrier between them are reported.

#include <pthread.h>
#include <sched.h>

#include <thread>
#include <vector>

static thread_local Dimension threadIdx;

namespace host {

struct Barrier {
  pthread_barrier_t barrier;

  void begin(unsigned members) { pthread_barrier_init(&barrier, nullptr, members); }
  void end() { pthread_barrier_destroy(&barrier); }
  void wait(unsigned) { pthread_barrier_wait(&barrier); }
};

static Barrier of_block, of_warp[MOST / WARP];

// A warp's threads, for a shuffle, which orders no memory: relaxed atomics, of which
// ThreadSanitizer takes none for a barrier. (The compiler and x86 keep them in order.)
static void meet() {
  static unsigned arrived[MOST / WARP], rounds[MOST / WARP];
  const unsigned warp = threadIdx.x / WARP, mine = __atomic_load_n(&rounds[warp], __ATOMIC_RELAXED);
  asm volatile("" ::: "memory");
  if (__atomic_add_fetch(&arrived[warp], 1, __ATOMIC_RELAXED) == WARP) {
    __atomic_store_n(&arrived[warp], 0, __ATOMIC_RELAXED);
    asm volatile("" ::: "memory");
    __atomic_store_n(&rounds[warp], mine + 1, __ATOMIC_RELAXED);
  }
  while (__atomic_load_n(&rounds[warp], __ATOMIC_RELAXED) == mine) sched_yield();
  asm volatile("" ::: "memory");
}

static void run_block() {
  const unsigned warps = blockDim.x / WARP;
  of_block.begin(blockDim.x);
  for (unsigned w = 0; w < warps; ++w) of_warp[w].begin(WARP);
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < blockDim.x; ++t) {
    threads.emplace_back([t] {
      threadIdx.x = t;
      task(task_data);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (unsigned w = 0; w < warps; ++w) of_warp[w].end();
  of_block.end();
}

}  // namespace host

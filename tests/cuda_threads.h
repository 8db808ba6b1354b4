// A block's threads for cuda_on_host.h as threads of the host, all at once, which ThreadSanitizer
// watches: two that touch the same memory without a barrier between them are reported.

#include <pthread.h>

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

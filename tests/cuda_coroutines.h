// A block's threads for cuda_on_host.h, one after another, each on a stack of its own: a thread runs
// until it waits at a barrier, then the next one does.

#include <setjmp.h>
#include <ucontext.h>

static Dimension threadIdx;

namespace host {

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

// A warp's threads, for a shuffle.
static void meet() { of_warp[threadIdx.x / WARP].wait(WARP); }

}  // namespace host

extern "C" void run_backwards(unsigned yes) { host::backwards = yes; }

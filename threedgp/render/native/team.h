// Work for the threads that PyTorch's own operators use; threads.py finds them.

#pragma once

#include <atomic>
#include <cstdint>

struct Team {
  void (*run)(void (*body)(void*), void* argument, unsigned threads, unsigned flags);  // GOMP_parallel, or null
  int64_t threads;

  // work(0) to work(count - 1), each once: a thread takes the next one when it is done with one.
  template <class Work>
  void share(int64_t count, Work work) const {
    std::atomic<int64_t> next{0};
    auto body = [&] {
      for (int64_t k = next++; k < count; k = next++) work(k);
    };
    const int64_t wanted = count < threads ? count : threads;
    if (run && wanted > 1)
      run([](void* at) { (*static_cast<decltype(body)*>(at))(); }, &body, unsigned(wanted), 0);
    else
      body();
  }
};

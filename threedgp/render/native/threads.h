// Loops over the threads of PyTorch's OpenMP library, which threads.py finds.

#pragma once

#include <atomic>
#include <cstdint>

struct Threads {
  void (*parallel)(void (*body)(void*), void* argument, unsigned threads, unsigned flags);  // GOMP_parallel, or null
  int64_t count;

  // Calls work(0) to work(size - 1), each once; a thread that has finished one call takes the next.
  template <class Work>
  void for_each(int64_t size, Work work) const {
    std::atomic<int64_t> next{0};
    auto body = [&] {
      for (int64_t k = next++; k < size; k = next++) work(k);
    };
    const int64_t used = size < count ? size : count;
    if (parallel && used > 1)
      parallel([](void* at) { (*static_cast<decltype(body)*>(at))(); }, &body, unsigned(used), 0);
    else
      body();
  }
};

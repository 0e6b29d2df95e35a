// Work shared among threads, on the OpenMP pool that PyTorch runs on.
//
// A pool of our own would fight with PyTorch's, whose threads keep spinning for a while after every operation. The
// pool is reached through the entry point that compilers call for a parallel region, which GNU's and LLVM's runtimes
// both have; on Linux PyTorch loads its runtime for everyone to see, so the weak symbol finds that one and no other.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#if defined(__linux__)
extern "C" void GOMP_parallel(void (*function)(void*), void* data, unsigned threads, unsigned flags)
    __attribute__((weak));
#else
constexpr void (*GOMP_parallel)(void (*)(void*), void*, unsigned, unsigned) = nullptr;  // threads of our own
#endif

namespace olivine {

// Hands out the items 0 … count − 1, each once.
class Items {
public:
    explicit Items(int64_t count) : count_(count) {}
    // The next item, or -1 when there are no more.
    int64_t next() {
        const int64_t item = next_.fetch_add(1, std::memory_order_relaxed);
        return item < count_ ? item : -1;
    }

private:
    const int64_t count_;
    std::atomic<int64_t> next_{0};
};

// Calls work(items) on up to `threads` threads at once; each takes items until there are none. Which thread gets which
// item is chance, so an item's result must not depend on it.
template <class Work>
void share(int threads, int64_t count, const Work& work) {
    struct Shared {
        Items items;
        const Work& work;
    } shared{Items(count), work};
    const auto run = [](void* data) {
        auto* mine = static_cast<Shared*>(data);
        mine->work(mine->items);
    };
    if (threads > count) threads = static_cast<int>(count);
    if (threads <= 1) return run(&shared);
    if (GOMP_parallel) return GOMP_parallel(run, &shared, static_cast<unsigned>(threads), 0);
    std::vector<std::thread> others;
    for (int thread = 1; thread < threads; ++thread) others.emplace_back(run, &shared);
    run(&shared);
    for (auto& other : others) other.join();
}

}  // namespace olivine

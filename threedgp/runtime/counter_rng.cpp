// Numbers by counter on a CPU: the integers of counter_rng.py, which says what the arguments mean, in one pass.

#include <cstdint>

namespace {

constexpr uint64_t STEP = 0x9E3779B97F4A7C15u;

uint64_t mixed(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

template <class Number, class Map>
void draw(const uint64_t* keys, int64_t batch, uint64_t state, int64_t count, Number* to, Map map) {
  for (int64_t row = 0; row < batch; ++row, to += count) {
    const uint64_t start = mixed((state ^ keys[row]) + STEP);
    for (int64_t k = 0; k < count; ++k) to[k] = map(mixed(start + uint64_t(k + 1) * STEP));
  }
}

}  // namespace

extern "C" {

// For each of `keys` [batch], the last part of a key whose others made `state`: `count` times 64 bits.
void counter_bits(const uint64_t* keys, int64_t batch, uint64_t state, int64_t count, uint64_t* to) {
  draw(keys, batch, state, count, to, [](uint64_t bits) { return bits; });
}

// The same as numbers in [0, 1).
void counter_uniform(const uint64_t* keys, int64_t batch, uint64_t state, int64_t count, float* to) {
  draw(keys, batch, state, count, to, [](uint64_t bits) { return float(int32_t(bits >> 40)) * 0x1p-24f; });
}

}  // extern "C"

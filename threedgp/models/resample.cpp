// The filter [1, 3, 3, 1] / 8 along both axes of channels-last pictures: same size, half size, or double size.
//
// Each row of results is a sum of a few rows of the picture, and each of its pixels a sum of a few pixels of that sum.
// resample.py says what the arguments mean. Rows do not mix: results do not depend on the number of threads.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "team.h"

namespace {

constexpr int64_t ROWS = 4;  // that a thread takes at a time
constexpr float FILTER[4] = {0.125f, 0.375f, 0.375f, 0.125f};

}  // namespace

extern "C" {

// Filtered pictures [batch][height][width][channels] to [batch][to_height][to_width][channels]. Result n is a sum over
// pixels step * n + k - padding, or, with `spread`, over those of a picture with zeros between its pixels.
struct Resampling {
  int64_t batch, height, width, to_height, to_width, channels, step, padding, spread;
  float gain;
};

}  // extern "C"

namespace {

// to[i] = sum over k of weights[k] * from[k][i]; channels come in multiples of LANES.
template <int LANES, int TAPS>
void weighted(const float* const from[TAPS], const float weights[TAPS], float* to, int64_t count) {
  typedef float Lanes __attribute__((vector_size(LANES * 4), aligned(4)));
  for (int64_t at = 0; at < count; at += LANES) {
    Lanes total = {}, part;
    for (int k = 0; k < TAPS; ++k) {
      std::memcpy(&part, from[k] + at, sizeof part);
      total += part * weights[k];
    }
    std::memcpy(to + at, &total, sizeof total);
  }
}

// The first of the pixels that result n is a sum of, and, where these alternate, which of the filter's weights it takes.
template <int TAPS>
struct Place {
  int64_t first;
  int phase;

  Place(const Resampling& r, int64_t n)
      : first(TAPS == 2 ? (n + 1) / 2 - 1 : r.step * n - r.padding), phase(TAPS == 2 ? int(n & 1) : 0) {}
};

template <int LANES, int TAPS>
void rows(const Resampling& r, const float* x, float* y, int64_t image, int64_t first, int64_t last) {
  static thread_local std::vector<float> line, beyond;
  const int64_t row = r.width * r.channels;
  line.assign(row + 2 * r.padding * r.channels, 0);  // with what lies beyond its ends
  beyond.assign(row, 0);
  float weights[2][TAPS], scaled[2][TAPS];
  for (int phase = 0; phase < 2; ++phase)
    for (int k = 0; k < TAPS; ++k) {
      weights[phase][k] = TAPS == 2 ? FILTER[2 * k + phase] : FILTER[k];
      scaled[phase][k] = weights[phase][k] * r.gain;
    }
  const float* from[TAPS];
  for (int64_t n = first; n < last; ++n) {
    const Place<TAPS> down(r, n);
    for (int k = 0; k < TAPS; ++k) {
      const int64_t source = down.first + k;
      from[k] = source >= 0 && source < r.height ? x + (image * r.height + source) * row : beyond.data();
    }
    weighted<LANES, TAPS>(from, scaled[down.phase], line.data() + r.padding * r.channels, row);
    float* to = y + (image * r.to_height + n) * r.to_width * r.channels;
    for (int64_t m = 0; m < r.to_width; ++m, to += r.channels) {
      const Place<TAPS> across(r, m);
      for (int k = 0; k < TAPS; ++k) from[k] = line.data() + (r.padding + across.first + k) * r.channels;
      weighted<LANES, TAPS>(from, weights[across.phase], to, r.channels);
    }
  }
}

}  // namespace

extern "C" {

void resample(const float* x, float* y, const Resampling* resampling, const Team* team) {
  const Resampling& r = *resampling;
  const bool wide = r.channels % 16 == 0;
  const auto work = r.spread ? (wide ? rows<16, 2> : rows<8, 2>) : (wide ? rows<16, 4> : rows<8, 4>);
  const int64_t chunks = (r.to_height + ROWS - 1) / ROWS;
  team->share(r.batch * chunks, [&](int64_t piece) {
    const int64_t first = piece % chunks * ROWS;
    work(r, x, y, piece / chunks, first, std::min(first + ROWS, r.to_height));
  });
}

}  // extern "C"

// What stands between two convolutions of a modulated layer, in one pass over memory: y = leaky(x * scale + offset) *
// after, and its gradients with the sums over pixels. All memory is channels last, channels are multiples of 16, and
// every number is summed in a fixed order: results do not depend on the number of threads. modulation.py says what the
// arguments mean.

#include <algorithm>
#include <cstdint>

#include "team.h"
#include "vectors.h"

namespace {

typedef float Lanes __attribute__((vector_size(64), aligned(4)));
constexpr int L = 16;             // channels of a vector
constexpr int V = 2;              // vectors that are worked on side by side
constexpr int64_t PIXELS = 256;   // that a thread takes at a time, forward
constexpr int64_t SUMMED = 64;    // pixels that are added up before they are added to the others: rounding

Lanes load(const float* from) { return ::load<Lanes>(from); }

}  // namespace

extern "C" {

// Null for what is left out. Strides are from one image's factors to the next one's, 0 where all images share them.
struct Layer {
  const float *scale, *offset, *after;
  int64_t scale_stride, offset_stride, after_stride, batch, pixels, channels;
  float slope;
};

// Of scale, offset and after, each [batch][channels], or null.
struct Sums {
  float *scale, *offset, *after;
};

}  // extern "C"

namespace {

// Factors of N vectors of one image's channels.
template <int N>
struct Factors {
  Lanes scale[N], offset[N], after[N];

  Factors(const Layer& layer, int64_t image, int64_t channel) {
    for (int v = 0; v < N; ++v) {
      const int64_t c = channel + v * L;
      scale[v] = layer.scale ? load(layer.scale + image * layer.scale_stride + c) : Lanes{} + 1.0f;
      offset[v] = layer.offset ? load(layer.offset + image * layer.offset_stride + c) : Lanes{};
      after[v] = layer.after ? load(layer.after + image * layer.after_stride + c) : Lanes{} + 1.0f;
    }
  }
};

template <int N>
void forward(const Layer& layer, const float* x, float* y, int64_t image, int64_t channel, int64_t first,
             int64_t last) {
  const Factors<N> by(layer, image, channel);
  for (int64_t pixel = first; pixel < last; ++pixel) {
    const int64_t at = (image * layer.pixels + pixel) * layer.channels + channel;
    for (int v = 0; v < N; ++v) {
      const Lanes value = load(x + at + v * L) * by.scale[v] + by.offset[v];
      store(y + at + v * L, (value > 0.0f ? value : value * layer.slope) * by.after[v]);
    }
  }
}

template <int N>
void backward(const Layer& layer, const float* x, const float* gradient, float* to, const Sums& sums, int64_t image,
              int64_t channel) {
  const Factors<N> by(layer, image, channel);
  Lanes scale[N] = {}, offset[N] = {}, after[N] = {};
  for (int64_t first = 0; first < layer.pixels; first += SUMMED) {
    Lanes scale_here[N] = {}, offset_here[N] = {}, after_here[N] = {};
    for (int64_t pixel = first; pixel < std::min(first + SUMMED, layer.pixels); ++pixel) {
      const int64_t at = (image * layer.pixels + pixel) * layer.channels + channel;
      for (int v = 0; v < N; ++v) {
        const Lanes input = load(x + at + v * L), result = load(gradient + at + v * L);
        const Lanes value = input * by.scale[v] + by.offset[v], inner = result * by.after[v];
        const Lanes grad = value > 0.0f ? inner : inner * layer.slope;
        store(to + at + v * L, grad * by.scale[v]);
        scale_here[v] += grad * input;
        offset_here[v] += grad;
        after_here[v] += result * (value > 0.0f ? value : value * layer.slope);
      }
    }
    for (int v = 0; v < N; ++v) {
      scale[v] += scale_here[v];
      offset[v] += offset_here[v];
      after[v] += after_here[v];
    }
  }
  for (int v = 0; v < N; ++v) {
    const int64_t at = image * layer.channels + channel + v * L;
    if (sums.scale) store(sums.scale + at, scale[v]);
    if (sums.offset) store(sums.offset + at, offset[v]);
    if (sums.after) store(sums.after + at, after[v]);
  }
}

}  // namespace

extern "C" {

void modulation_forward(const Layer* layer, const float* x, float* y, const Team* team) {
  const int64_t chunks = (layer->pixels + PIXELS - 1) / PIXELS;
  team->share(layer->batch * chunks, [=](int64_t k) {
    const int64_t first = k % chunks * PIXELS, last = std::min(first + PIXELS, layer->pixels);
    int64_t c = 0;
    for (; c + V * L <= layer->channels; c += V * L) forward<V>(*layer, x, y, k / chunks, c, first, last);
    for (; c < layer->channels; c += L) forward<1>(*layer, x, y, k / chunks, c, first, last);
  });
}

void modulation_backward(const Layer* layer, const float* x, const float* gradient, float* to, const Sums* sums,
                         const Team* team) {
  const int64_t groups = (layer->channels + V * L - 1) / (V * L);
  team->share(layer->batch * groups, [=](int64_t piece) {
    const int64_t image = piece / groups, c = piece % groups * V * L;
    if (c + V * L <= layer->channels)
      backward<V>(*layer, x, gradient, to, *sums, image, c);
    else
      backward<1>(*layer, x, gradient, to, *sums, image, c);
  });
}

}  // extern "C"

// The tri-plane field on a CPU: gathers, decodes and, in the backward pass, scatters 16 samples at a time, which stay in
// the L1 cache.
//
// field.py compiles it for one number of channels (CHANNELS, a multiple of 8) and of hidden units (HIDDEN). Sums have a
// fixed order, so results do not depend on the number of threads.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "threads.h"
#include "vectors.h"

struct Planes {
  int64_t image, plane, row, column;  // strides in floats
};

struct Rays {
  const float *origins, *directions, *distances;
  int64_t per_image, samples;
  int32_t height, width, contraction;
  float inverse_half_width;
};

struct Decoder {
  const float *w1, *w1t, *b1, *w2, *b2;  // [H][C], [C][HP], [HP], [4][HP], [4]; HP is H padded to 16 with zeros
};

namespace {

constexpr int C = CHANNELS, H = HIDDEN;
constexpr int LANES = C % 16 == 0 ? 16 : 8;
constexpr int CV = C / LANES, HV = (H + 15) / 16, HP = HV * 16;
constexpr int BLOCK = 16;
constexpr int GROUP = HV <= 4 ? 4 : 2;  // samples whose sums are in registers together
constexpr float GAIN = 1.41421356f, SLOPE = 0.2f * GAIN;

typedef float Channels __attribute__((vector_size(LANES * 4), aligned(4)));
typedef float Units __attribute__((vector_size(64), aligned(4)));

template <class V>
float sum(V v) {
  constexpr int n = sizeof(V) / 4;
  float part[n];
  std::memcpy(part, &v, sizeof v);
  for (int half = n / 2; half; half /= 2)
    for (int i = 0; i < half; ++i) part[i] += part[i + half];
  return part[0];
}

typedef float Samples __attribute__((vector_size(BLOCK * 4), aligned(4)));  // one number for each sample of a block
typedef int32_t Integers __attribute__((vector_size(BLOCK * 4), aligned(4)));

constexpr int ACROSS[3] = {0, 0, 1}, UP[3] = {1, 2, 2};

// The two texels around a coordinate of each sample: index, weight (0 beyond the border), derivative of the weight.
struct TexelPairs {
  alignas(64) int32_t index[2][BLOCK];
  alignas(64) float weight[2][BLOCK], slope[2][BLOCK];

  void set(Samples coordinate, int size) {
    const float scale = (size - 1) * 0.5f;
    Samples position = (coordinate + 1.0f) * scale;
    position = position > -2.0f ? position : Samples{} - 2.0f;  // also if it is NaN
    position = position < float(size) ? position : Samples{} + float(size);
    Integers low = __builtin_convertvector(position, Integers);  // truncates
    low += __builtin_convertvector(low, Samples) > position;  // true is -1: floor
    const Samples fraction = position - __builtin_convertvector(low, Samples);
    for (int k = 0; k < 2; ++k) {
      const Integers at = low + k, inside = (at >= 0) & (at < size);
      store(index[k], at < 0 ? Integers{} : at < size ? at : Integers{} + (size - 1));
      store(weight[k], inside ? (k ? fraction : 1.0f - fraction) : Samples{});
      store(slope[k], inside ? Samples{} + (k ? scale : -scale) : Samples{});
    }
  }
};

// Adds a matrix product to `count` rows of `width` vectors, which stay in registers: row j of `to`, whose rows are
// `stride` numbers apart, += sum over i < n of factor(i, j) * row i of `rows`.
template <class Vector, int count, int width, class Factor>
void add_product(float* to, int64_t stride, int n, const float* rows, int64_t row_stride, Factor factor) {
  constexpr int size = sizeof(Vector) / 4;
  Vector total[count][width];
  for (int j = 0; j < count; ++j)
    for (int v = 0; v < width; ++v) total[j][v] = load<Vector>(to + j * stride + v * size);
  for (int i = 0; i < n; ++i)
    for (int v = 0; v < width; ++v) {
      const Vector row = load<Vector>(rows + i * row_stride + v * size);
      for (int j = 0; j < count; ++j) total[j][v] += factor(i, j) * row;
    }
  for (int j = 0; j < count; ++j)
    for (int v = 0; v < width; ++v) store(to + j * stride + v * size, total[j][v]);
}

// BLOCK samples: their texels, features and hidden units.
struct Block {
  int64_t rays[BLOCK], images[BLOCK];
  alignas(64) float t[BLOCK], scaled[3][BLOCK];  // positions in half-widths, before contraction
  TexelPairs column[3], row[3];
  alignas(64) int64_t texels[12][BLOCK];  // offsets in the planes
  alignas(64) float features[BLOCK][C];
  alignas(64) float pre[BLOCK][HP];
  int count;

  // Samples [first, first + n); the rest of the block repeats the last one.
  void place(const Rays& at, const Planes& planes, int64_t first, int n) {
    count = n;
    alignas(64) float position[3][BLOCK];
    int64_t sample = first, ray = first / at.samples, image = ray / at.per_image;
    for (int s = 0; s < BLOCK; ++s) {
      if (s && s < n && ++sample == (ray + 1) * at.samples && ++ray == (image + 1) * at.per_image) ++image;
      rays[s] = ray;
      images[s] = image;
      t[s] = at.distances[sample];
      for (int k = 0; k < 3; ++k)
        scaled[k][s] = (at.origins[rays[s] * 3 + k] + t[s] * at.directions[rays[s] * 3 + k]) * at.inverse_half_width;
    }
    std::memcpy(position, scaled, sizeof position);
    if (at.contraction)
      for (int s = 0; s < BLOCK; ++s) {
        const float inverse = 1 / std::sqrt(std::max(square(s), 1.0f));
        for (int k = 0; k < 3; ++k) position[k][s] *= 0.5f * (2 - inverse) * inverse;
      }
    for (int p = 0; p < 3; ++p) {
      column[p].set(load<Samples>(position[ACROSS[p]]), at.width);
      row[p].set(load<Samples>(position[UP[p]]), at.height);
    }
    offsets(planes, texels);
  }

  // Offsets of the twelve texels of each sample: four for each plane, by rows.
  void offsets(const Planes& planes, int64_t to[12][BLOCK]) const {
    for (int k = 0; k < 12; ++k) {
      const int32_t *r = row[k / 4].index[k / 2 % 2], *c = column[k / 4].index[k % 2];
      for (int s = 0; s < BLOCK; ++s)
        to[k][s] = images[s] * planes.image + k / 4 * planes.plane + r[s] * planes.row + c[s] * planes.column;
    }
  }

  float square(int s) const {
    return scaled[0][s] * scaled[0][s] + scaled[1][s] * scaled[1][s] + scaled[2][s] * scaled[2][s];
  }

  // Gradient of the position of sample s in scene units, given that of its coordinates on the planes.
  void to_position(const Rays& at, int s, float g[3]) const {
    if (at.contraction) {
      const float all = square(s), inverse = 1 / std::sqrt(std::max(all, 1.0f));
      const float factor = 0.5f * (2 - inverse) * inverse;
      const float slope = all > 1 ? (inverse - 1) * inverse * inverse * inverse : 0.0f;
      const float radial = (scaled[0][s] * g[0] + scaled[1][s] * g[1] + scaled[2][s] * g[2]) * slope;
      for (int k = 0; k < 3; ++k) g[k] = factor * g[k] + radial * scaled[k][s];
    }
    for (int k = 0; k < 3; ++k) g[k] *= at.inverse_half_width;
  }

  void gather(const float* table, const Planes& planes, const Rays& at, int64_t first, int n) {
    place(at, planes, first, n);
    for (int k = 0; k < 12; ++k)
      for (int s = 0; s < n; ++s) {
        const char* texel = reinterpret_cast<const char*>(table + texels[k][s]);
        for (int line = 0; line < C * 4; line += 64) __builtin_prefetch(texel + line);
      }
    alignas(64) float weights[12][BLOCK];
    for (int k = 0; k < 12; ++k)
      store(weights[k], load<Samples>(row[k / 4].weight[k / 2 % 2]) * load<Samples>(column[k / 4].weight[k % 2]) *
                            (1.0f / 3));
    std::memset(features, 0, sizeof features);
    for (int s = 0; s < n; ++s) {
      Channels total[CV] = {};
      for (int k = 0; k < 12; ++k)
        for (int v = 0; v < CV; ++v) total[v] += weights[k][s] * load<Channels>(table + texels[k][s] + v * LANES);
      for (int v = 0; v < CV; ++v) store(features[s] + v * LANES, total[v]);
    }
  }

  void first_layer(const Decoder& decoder) {
    for (int s = 0; s < count; s += GROUP) {
      for (int j = 0; j < GROUP; ++j) std::memcpy(pre[s + j], decoder.b1, sizeof pre[0]);
      add_product<Units, GROUP, HV>(pre[s], HP, C, decoder.w1t, HP, [&](int c, int j) { return features[s + j][c]; });
    }
  }

  static Units slope(Units pre) { return pre > 0 ? Units{} + GAIN : Units{} + SLOPE; }

  void second_layer(const Decoder& decoder, float* out) const {
    for (int s = 0; s < count; ++s)
      for (int k = 0; k < 4; ++k) {
        Units total = {};
        for (int v = 0; v < HV; ++v) {
          const Units x = load<Units>(pre[s] + v * 16);
          total += x * slope(x) * load<Units>(decoder.w2 + k * HP + v * 16);
        }
        out[s * 4 + k] = sum(total) + decoder.b2[k];
      }
  }
};

}  // namespace

extern "C" {

// rgb and raw density of all samples, [images][per_image][samples][4]. Samples behind `max_optical_depth` > 0 have rgb 0
// and raw density `empty`; `bias` is added to raw density for that depth only.
void field_forward(const float* texels, const Planes* planes, const Rays* rays, const Decoder* decoder,
                   const float* noise, float* out, int64_t images, float max_optical_depth, float bias, float empty,
                   const Threads* threads) {
  const int64_t total = images * rays->per_image;
  const int64_t pieces = std::min(4 * threads->count, total);  // more than threads, because opaque rays end early
  threads->for_each(pieces, [=](int64_t k) {
    const int64_t first = total * k / pieces, last = total * (k + 1) / pieces, n = rays->samples;
    Block block;
    const auto evaluate = [&](int64_t sample, int count) {
      block.gather(texels, *planes, *rays, sample, count);
      block.first_layer(*decoder);
      block.second_layer(*decoder, out + sample * 4);
    };
    if (max_optical_depth <= 0)
      for (int64_t s = first * n; s < last * n; s += BLOCK) evaluate(s, int(std::min<int64_t>(BLOCK, last * n - s)));
    else
      for (int64_t ray = first; ray < last; ++ray) {
        float depth = 0;
        for (int64_t s = 0; s < n; s += BLOCK / 2) {
          const int64_t at = ray * n + s;
          const int size = int(std::min<int64_t>(BLOCK / 2, n - s));
          float* to = out + at * 4;
          if (depth >= max_optical_depth) {
            for (int k = 0; k < size * 4; ++k) to[k] = k % 4 == 3 ? empty : 0;
            continue;
          }
          evaluate(at, size);
          for (int k = 0; k < size && s + k + 1 < n; ++k) {
            const float raw = to[k * 4 + 3] + bias + (noise ? noise[at + k] : 0.0f);
            const float delta = rays->distances[at + k + 1] - rays->distances[at + k];
            depth += (std::max(raw, 0.0f) + std::log1p(std::exp(-std::fabs(raw)))) * delta;
          }
        }
      }
    if (noise)
      for (int64_t s = first * n; s < last * n; ++s) out[s * 4 + 3] += noise[s];
  });
}

// Adds to the gradients that are not null. Each image has its own grad_decoder of `grad_size` numbers: w1t, b1, w2, b2,
// padded.
void field_backward(const float* texels, const Planes* planes, const Rays* rays, const Decoder* decoder,
                    const float* grad_out, float* grad_texels, const Planes* grad_planes, float* grad_decoder,
                    int64_t grad_size, float* grad_origins, float* grad_directions, int64_t images,
                    const Threads* threads) {
  threads->for_each(images, [=](int64_t image) {
    Block block;
    alignas(64) float grad_pre[BLOCK][HP], grad_features[BLOCK][C];
    alignas(64) int64_t to_texels[12][BLOCK];
    float* grad_w1t = grad_decoder ? grad_decoder + image * grad_size : nullptr;
    float *grad_b1 = grad_w1t + C * HP, *grad_w2 = grad_b1 + HP, *grad_b2 = grad_w2 + 4 * HP;
    const int64_t size = rays->per_image * rays->samples, end = (image + 1) * size;
    for (int64_t start = image * size; start < end; start += BLOCK) {
      const int count = int(std::min<int64_t>(BLOCK, end - start));
      const float* grad = grad_out + start * 4;
      block.gather(texels, *planes, *rays, start, count);
      block.first_layer(*decoder);
      std::memset(grad_pre, 0, sizeof grad_pre);
      for (int s = 0; s < count; ++s)
        for (int v = 0; v < HV; ++v) {
          Units to_active = {};
          for (int k = 0; k < 4; ++k) to_active += grad[s * 4 + k] * load<Units>(decoder->w2 + k * HP + v * 16);
          const Units x = load<Units>(block.pre[s] + v * 16), slope = Block::slope(x);
          store(grad_pre[s] + v * 16, to_active * slope);
          if (!grad_decoder) continue;
          for (int k = 0; k < 4; ++k) {
            float* to = grad_w2 + k * HP + v * 16;
            store(to, load<Units>(to) + grad[s * 4 + k] * (x * slope));
          }
        }
      if (grad_decoder) {
        for (int s = 0; s < count; ++s)
          for (int k = 0; k < 4; ++k) grad_b2[k] += grad[s * 4 + k];
        for (int v = 0; v < HV; ++v) {
          Units total = load<Units>(grad_b1 + v * 16);
          for (int s = 0; s < count; ++s) total += load<Units>(grad_pre[s] + v * 16);
          store(grad_b1 + v * 16, total);
        }
        for (int c = 0; c < C; c += 4)
          add_product<Units, 4, HV>(grad_w1t + c * HP, HP, count, grad_pre[0], HP,
                                    [&](int s, int j) { return block.features[s][c + j]; });
      }
      if (!grad_texels && !grad_origins) continue;
      std::memset(grad_features, 0, sizeof grad_features);
      for (int s = 0; s < count; s += 4)
        add_product<Channels, 4, CV>(grad_features[s], C, H, decoder->w1, C,
                                     [&](int h, int j) { return grad_pre[s + j][h]; });
      if (grad_texels) block.offsets(*grad_planes, to_texels);
      for (int s = 0; s < count; ++s) {
        Channels g[CV];
        for (int v = 0; v < CV; ++v) g[v] = load<Channels>(grad_features[s] + v * LANES) * (1.0f / 3);
        if (grad_texels)
          for (int k = 0; k < 12; ++k) {
            const int p = k / 4, r = k / 2 % 2, c = k % 2;
            const float weight = block.row[p].weight[r][s] * block.column[p].weight[c][s];
            if (weight == 0) continue;
            float* to = grad_texels + to_texels[k][s];
            for (int v = 0; v < CV; ++v) store(to + v * LANES, load<Channels>(to + v * LANES) + weight * g[v]);
          }
        if (!grad_origins) continue;
        float to_position[3] = {0, 0, 0};
        for (int p = 0; p < 3; ++p) {
          Channels across = {}, up = {};
          for (int k = 0; k < 4; ++k) {
            const int r = k / 2, c = k % 2;
            const float* at = texels + block.texels[p * 4 + k][s];
            Channels dot = {};
            for (int v = 0; v < CV; ++v) dot += g[v] * load<Channels>(at + v * LANES);
            across += block.row[p].weight[r][s] * block.column[p].slope[c][s] * dot;
            up += block.row[p].slope[r][s] * block.column[p].weight[c][s] * dot;
          }
          to_position[ACROSS[p]] += sum(across);
          to_position[UP[p]] += sum(up);
        }
        block.to_position(*rays, s, to_position);
        for (int k = 0; k < 3; ++k) {
          grad_origins[block.rays[s] * 3 + k] += to_position[k];
          grad_directions[block.rays[s] * 3 + k] += block.t[s] * to_position[k];
        }
      }
    }
  });
}

}  // extern "C"

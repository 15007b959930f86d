// The tri-plane field on a CPU: gather, decode and, backward, scatter, sixteen samples at a time in the nearest cache.
//
// Compiled for one number of channels (CHANNELS, a multiple of 8) and hidden units (HIDDEN) by native_field.py, which
// also says what the arguments mean. Sums run in a fixed order: results do not depend on the number of threads.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

constexpr int C = CHANNELS, H = HIDDEN;
constexpr int LANES = C % 16 == 0 ? 16 : 8;
constexpr int CV = C / LANES, HV = (H + 15) / 16, HP = HV * 16;
constexpr int BLOCK = 16;
constexpr int GROUP = HV <= 4 ? 4 : 2;  // samples whose sums share the registers
constexpr float GAIN = 1.41421356f, SLOPE = 0.2f * GAIN;

typedef float Channels __attribute__((vector_size(LANES * 4), aligned(4)));
typedef float Units __attribute__((vector_size(64), aligned(4)));

template <class V>
V load(const float* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <class V>
void store(float* p, V v) {
  std::memcpy(p, &v, sizeof v);
}

template <class V>
float sum(V v) {
  constexpr int n = sizeof(V) / 4;
  float part[n];
  std::memcpy(part, &v, sizeof v);
  for (int half = n / 2; half; half /= 2)
    for (int i = 0; i < half; ++i) part[i] += part[i + half];
  return part[0];
}

}  // namespace

extern "C" {

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

}  // extern "C"

namespace {

// The two texels around a coordinate: index, weight (zero beyond the border), derivative of the weight.
struct Pair {
  int index[2];
  float weight[2], slope[2];

  void set(float coordinate, int size) {
    const float scale = (size - 1) * 0.5f;
    float position = (coordinate + 1.0f) * scale;
    position = position > -2.0f ? position : -2.0f;  // NaN lands outside, too
    position = std::min(position, float(size));
    const float floor = std::floor(position), fraction = position - floor;
    const int low = int(floor);
    for (int k = 0; k < 2; ++k) {
      const int at = low + k;
      const bool inside = at >= 0 && at < size;
      index[k] = std::min(std::max(at, 0), size - 1);
      weight[k] = inside ? (k ? fraction : 1.0f - fraction) : 0.0f;
      slope[k] = inside ? (k ? scale : -scale) : 0.0f;
    }
  }
};

constexpr int ACROSS[3] = {0, 0, 1}, UP[3] = {1, 2, 2};

struct Sample {
  int64_t ray, image;
  float t, scaled[3];  // position in half-widths, before contraction
  Pair column[3], row[3];

  void set(const Rays& rays, int64_t at) {
    ray = at / rays.samples;
    image = ray / rays.per_image;
    t = rays.distances[at];
    float x[3], square = 0;
    for (int k = 0; k < 3; ++k) {
      scaled[k] = (rays.origins[ray * 3 + k] + t * rays.directions[ray * 3 + k]) * rays.inverse_half_width;
      square += scaled[k] * scaled[k];
    }
    float factor = 1;
    if (rays.contraction) {
      const float inverse = 1 / std::sqrt(std::max(square, 1.0f));
      factor = 0.5f * (2 - inverse) * inverse;
    }
    for (int k = 0; k < 3; ++k) x[k] = scaled[k] * factor;
    for (int p = 0; p < 3; ++p) {
      column[p].set(x[ACROSS[p]], rays.width);
      row[p].set(x[UP[p]], rays.height);
    }
  }

  int64_t texel(const Planes& planes, int p, int r, int c) const {
    return image * planes.image + p * planes.plane + row[p].index[r] * planes.row + column[p].index[c] * planes.column;
  }

  // Gradient of the position in scene units, given that of the coordinates on the planes.
  void to_position(const Rays& rays, float g[3]) const {
    if (rays.contraction) {
      const float square = scaled[0] * scaled[0] + scaled[1] * scaled[1] + scaled[2] * scaled[2];
      const float inverse = 1 / std::sqrt(std::max(square, 1.0f));
      const float factor = 0.5f * (2 - inverse) * inverse;
      const float slope = square > 1 ? (inverse - 1) * inverse * inverse * inverse : 0.0f;
      const float radial = (scaled[0] * g[0] + scaled[1] * g[1] + scaled[2] * g[2]) * slope;
      for (int k = 0; k < 3; ++k) g[k] = factor * g[k] + radial * scaled[k];
    }
    for (int k = 0; k < 3; ++k) g[k] *= rays.inverse_half_width;
  }
};

// A block of samples on its way through the field.
struct Block {
  Sample samples[BLOCK];
  alignas(64) float features[BLOCK][C];
  alignas(64) float pre[BLOCK][HP];
  int count;

  void gather(const float* texels, const Planes& planes, const Rays& rays, int64_t first, int n) {
    count = n;
    for (int s = 0; s < n; ++s) {
      samples[s].set(rays, first + s);
      for (int k = 0; k < 12; ++k) {
        const char* at = reinterpret_cast<const char*>(texels + samples[s].texel(planes, k / 4, k / 2 % 2, k % 2));
        for (int line = 0; line < C * 4; line += 64) __builtin_prefetch(at + line);
      }
    }
    std::memset(features, 0, sizeof features);
    for (int s = 0; s < n; ++s) {
      Channels total[CV] = {};
      for (int k = 0; k < 12; ++k) {
        const int p = k / 4, r = k / 2 % 2, c = k % 2;
        const float weight = samples[s].row[p].weight[r] * samples[s].column[p].weight[c] * (1.0f / 3);
        const float* at = texels + samples[s].texel(planes, p, r, c);
        for (int v = 0; v < CV; ++v) total[v] += weight * load<Channels>(at + v * LANES);
      }
      for (int v = 0; v < CV; ++v) store(features[s] + v * LANES, total[v]);
    }
  }

  void first_layer(const Decoder& decoder) {
    for (int s = 0; s < count; s += GROUP) {
      Units total[GROUP][HV];
      for (int j = 0; j < GROUP; ++j)
        for (int v = 0; v < HV; ++v) total[j][v] = load<Units>(decoder.b1 + v * 16);
      for (int c = 0; c < C; ++c)
        for (int v = 0; v < HV; ++v) {
          const Units weight = load<Units>(decoder.w1t + c * HP + v * 16);
          for (int j = 0; j < GROUP; ++j) total[j][v] += features[s + j][c] * weight;
        }
      for (int j = 0; j < GROUP; ++j)
        for (int v = 0; v < HV; ++v) store(pre[s + j] + v * 16, total[j][v]);
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

// Samples of rays [first, last) of the flattened batch; opaque_depth > 0 leaves those behind that depth `empty`
// (`bias` is added to raw density for that depth alone).
void field_forward(const float* texels, const Planes* planes, const Rays* rays, const Decoder* decoder,
                   const float* noise, float* out, int64_t first, int64_t last, float opaque_depth, float bias,
                   float empty) {
  Block block;
  const int64_t n = rays->samples;
  if (opaque_depth > 0) {
    for (int64_t ray = first; ray < last; ++ray) {
      float depth = 0;
      for (int64_t s = 0; s < n; s += BLOCK / 2) {
        const int size = int(std::min<int64_t>(BLOCK / 2, n - s));
        float* to = out + (ray * n + s) * 4;
        if (depth >= opaque_depth) {
          for (int k = 0; k < size * 4; ++k) to[k] = k % 4 == 3 ? empty : 0;
          continue;
        }
        block.gather(texels, *planes, *rays, ray * n + s, size);
        block.first_layer(*decoder);
        block.second_layer(*decoder, to);
        for (int k = 0; k < size && s + k + 1 < n; ++k) {
          const int64_t at = ray * n + s + k;
          const float raw = to[k * 4 + 3] + bias + (noise ? noise[at] : 0.0f);
          const float delta = rays->distances[at + 1] - rays->distances[at];
          depth += (std::max(raw, 0.0f) + std::log1p(std::exp(-std::fabs(raw)))) * delta;
        }
      }
    }
  } else {
    for (int64_t s = first * n; s < last * n; s += BLOCK) {
      block.gather(texels, *planes, *rays, s, int(std::min<int64_t>(BLOCK, last * n - s)));
      block.first_layer(*decoder);
      block.second_layer(*decoder, out + s * 4);
    }
  }
  if (noise)
    for (int64_t s = first * n; s < last * n; ++s) out[s * 4 + 3] += noise[s];
}

// Adds the gradients of rays [first, last) to those given; null = not asked for. grad_decoder: w1t, b1, w2, b2, padded.
void field_backward(const float* texels, const Planes* planes, const Rays* rays, const Decoder* decoder,
                    const float* grad_out, float* grad_texels, const Planes* grad_planes, float* grad_decoder,
                    float* grad_origins, float* grad_directions, int64_t first, int64_t last) {
  Block block;
  alignas(64) float grad_pre[BLOCK][HP], grad_features[BLOCK][C];
  float *grad_w1t = grad_decoder, *grad_b1 = grad_w1t + C * HP, *grad_w2 = grad_b1 + HP, *grad_b2 = grad_w2 + 4 * HP;
  const int64_t end = last * rays->samples;
  for (int64_t start = first * rays->samples; start < end; start += BLOCK) {
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
      for (int c = 0; c < C; c += 4) {
        Units total[4][HV];
        for (int j = 0; j < 4; ++j)
          for (int v = 0; v < HV; ++v) total[j][v] = load<Units>(grad_w1t + (c + j) * HP + v * 16);
        for (int s = 0; s < count; ++s)
          for (int v = 0; v < HV; ++v) {
            const Units g = load<Units>(grad_pre[s] + v * 16);
            for (int j = 0; j < 4; ++j) total[j][v] += block.features[s][c + j] * g;
          }
        for (int j = 0; j < 4; ++j)
          for (int v = 0; v < HV; ++v) store(grad_w1t + (c + j) * HP + v * 16, total[j][v]);
      }
    }
    if (!grad_texels && !grad_origins) continue;
    for (int s = 0; s < count; s += 4) {
      Channels total[4][CV] = {};
      for (int h = 0; h < H; ++h)
        for (int v = 0; v < CV; ++v) {
          const Channels weight = load<Channels>(decoder->w1 + h * C + v * LANES);
          for (int j = 0; j < 4; ++j) total[j][v] += grad_pre[s + j][h] * weight;
        }
      for (int j = 0; j < 4; ++j)
        for (int v = 0; v < CV; ++v) store(grad_features[s + j] + v * LANES, total[j][v] * (1.0f / 3));
    }
    for (int s = 0; s < count; ++s) {
      const Sample& sample = block.samples[s];
      Channels g[CV];
      for (int v = 0; v < CV; ++v) g[v] = load<Channels>(grad_features[s] + v * LANES);
      if (grad_texels)
        for (int k = 0; k < 12; ++k) {
          const int p = k / 4, r = k / 2 % 2, c = k % 2;
          const float weight = sample.row[p].weight[r] * sample.column[p].weight[c];
          if (weight == 0) continue;
          float* to = grad_texels + sample.texel(*grad_planes, p, r, c);
          for (int v = 0; v < CV; ++v) store(to + v * LANES, load<Channels>(to + v * LANES) + weight * g[v]);
        }
      if (!grad_origins) continue;
      float to_position[3] = {0, 0, 0};
      for (int p = 0; p < 3; ++p) {
        Channels across = {}, up = {};
        for (int k = 0; k < 4; ++k) {
          const int r = k / 2, c = k % 2;
          const float* at = texels + sample.texel(*planes, p, r, c);
          Channels dot = {};
          for (int v = 0; v < CV; ++v) dot += g[v] * load<Channels>(at + v * LANES);
          across += sample.row[p].weight[r] * sample.column[p].slope[c] * dot;
          up += sample.row[p].slope[r] * sample.column[p].weight[c] * dot;
        }
        to_position[ACROSS[p]] += sum(across);
        to_position[UP[p]] += sum(up);
      }
      sample.to_position(*rays, to_position);
      for (int k = 0; k < 3; ++k) {
        grad_origins[sample.ray * 3 + k] += to_position[k];
        grad_directions[sample.ray * 3 + k] += sample.t * to_position[k];
      }
    }
  }
}

}  // extern "C"

// Compositing and importance sampling on a CPU: one ray in each vector lane, so that sums along a ray are plain loops
// over samples. Lanes never mix, so results do not depend on how rays are divided among threads.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "threads.h"
#include "vectors.h"

struct Sets {
  const float *distances[2], *samples[2];  // [rays][counts[k]], [rays][counts[k]][4]; the second may be empty
  int64_t counts[2];
  float last, bias;
  int32_t midpoint, last_back, sigmoid, white;
};

struct Gradients {
  const float *rgb, *depth, *weights, *transmittance;  // null = zero
};

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif
constexpr int ROWS = 13;  // of LANES floats of scratch memory per sample
constexpr int DRAWS = 4;  // that are searched for together
constexpr float FLOOR = 2e-5f;  // WEIGHT_FLOOR in sampling.py

typedef float Floats __attribute__((vector_size(LANES * 4)));
typedef int32_t Ints __attribute__((vector_size(LANES * 4)));
typedef uint32_t Bits __attribute__((vector_size(LANES * 4)));
typedef int64_t Keys __attribute__((vector_size(LANES * 4)));  // for half of the lanes

// Row s of an array [samples][LANES].
Floats load(const float* rows, int64_t s) { return ::load<Floats>(rows + s * LANES); }
void store(float* rows, int64_t s, Floats row) { ::store(rows + s * LANES, row); }

Floats broadcast(float x) { return Floats{} + x; }

// The functions below are accurate to a few units in the last place, for small results too, and propagate NaN.

struct Exponential {
  Floats value, minus_one;  // exp(x), exp(x) - 1

  explicit Exponential(Floats x) {
    const Floats low = broadcast(-87.3f), high = broadcast(88.0f);  // results are 0 below and exp(88) above
    const Floats bounded = x < low ? low : (x > high ? high : x);
    const Floats round = broadcast(12582912.0f);  // 1.5 * 2^23: the last bits of the sum are the nearest integer
    const Floats shifted = bounded * 1.44269504f + round, n = shifted - round;
    // log 2 in two parts; products with the first are exact
    const Floats r = bounded - n * 0.693359375f - n * -2.12194440e-4f;
    // Taylor series: for |r| <= log(2) / 2 the remainder is a quarter of a unit in the last place.
    const Floats series =
        0.5f + r * (1 / 6.0f + r * (1 / 24.0f + r * (1 / 120.0f + r * (1 / 720.0f + r * (1 / 5040.0f)))));
    const Floats grown = r + r * r * series;
    const Floats scale = (Floats)(((Bits)shifted - (Bits)round + 127u) << 23);
    value = x < low ? broadcast(0) : scale * grown + scale;
    minus_one = scale * grown + (scale - 1);
  }
};

struct Softplus {
  Floats value, slope;  // log(1 + exp(x)), its derivative

  explicit Softplus(Floats x) {
    const Floats small = Exponential(x > 0 ? -x : x).value;
    // log(1 + y) = 2 artanh(y / (2 + y)), whose argument is at most 1 / 3
    const Floats z = small / (2 + small), q = z * z;
    const Floats series =
        1 + q * (1 / 3.0f + q * (1 / 5.0f + q * (1 / 7.0f + q * (1 / 9.0f + q * (1 / 11.0f + q * (1 / 13.0f))))));
    value = (x > 0 ? x : broadcast(0)) + 2 * z * series;
    slope = (x > 0 ? broadcast(1) : small) / (1 + small);
  }
};

Floats sigmoid(Floats x) {
  const Floats small = Exponential(x > 0 ? -x : x).value;
  return (x > 0 ? broadcast(1) : small) / (1 + small);
}

// An integer with the order of torch.sort: both zeros are equal, NaN comes last.
int32_t ordered(float x) {
  int32_t bits;
  x += 0.0f;
  std::memcpy(&bits, &x, 4);
  return x != x ? INT32_MAX : bits < 0 ? bits ^ INT32_MAX : bits;
}

float unordered(int32_t bits) {
  bits = bits < 0 ? bits ^ INT32_MAX : bits;
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

// Sorts each lane of keys[count][LANES]: Batcher's merge exchange (Knuth, volume 3, algorithm 5.2.2 M).
void sort(int64_t* keys, int64_t count) {
  int64_t top = 1;
  while (top * 2 < count) top *= 2;
  if (count < 2) return;
  for (int64_t p = top; p > 0; p /= 2)
    for (int64_t q = top, r = 0, d = p;; d = q - p, q /= 2, r = p) {
      for (int64_t block = r; block < count - d; block += 2 * p)
        for (int64_t i = block; i < std::min(block + p, count - d); ++i)
          for (int half = 0; half < LANES; half += LANES / 2) {
            int64_t *low = keys + i * LANES + half, *high = low + d * LANES;
            const Keys a = ::load<Keys>(low), b = ::load<Keys>(high);
            ::store(low, a < b ? a : b);
            ::store(high, a < b ? b : a);
          }
      if (q == p) break;
    }
}

// The samples of LANES rays in the order of their distances, [sample][lane].
struct RayGroup {
  const Sets& sets;
  const int64_t count, intervals;
  int64_t rays[LANES];  // the last one is repeated if there are fewer
  int num_rays;
  float *t, *sample[4], *weight, *spare;
  int64_t* keys;  // distances in the high bits, indices of samples in the low bits

  RayGroup(const Sets& sets, float* scratch)
      : sets(sets), count(sets.counts[0] + sets.counts[1]), intervals(count - (sets.midpoint != 0)) {
    keys = reinterpret_cast<int64_t*>(scratch);
    t = scratch + 2 * count * LANES;
    for (int k = 0; k < 4; ++k) sample[k] = t + (k + 1) * count * LANES;
    weight = sample[3] + count * LANES;
    spare = weight + count * LANES;
  }

  int64_t place(int64_t s, int lane) const { return sets.counts[1] ? uint32_t(keys[s * LANES + lane]) : s; }

  // The address of the sample that is number s in the order, without a branch, which would be mispredicted.
  template <class T>
  T* at(T* const (&sets_of)[2], int64_t s, int lane) const {
    const int64_t place = this->place(s, lane), second = place >= sets.counts[0];
    return sets_of[second] + (rays[lane] * sets.counts[second] + place - second * sets.counts[0]) * 4;
  }

  void gather(int64_t first, int64_t end) {
    num_rays = int(std::min<int64_t>(LANES, end - first));
    for (int lane = 0; lane < LANES; ++lane) rays[lane] = std::min(first + lane, end - 1);
    if (sets.counts[1]) {
      for (int k = 0; k < 2; ++k) {
        // Samples will be read in an order that hardware cannot predict: prefetch them while distances are sorted.
        const float* at = sets.samples[k] + first * sets.counts[k] * 4;
        for (int64_t i = 0; i < num_rays * sets.counts[k] * 4; i += 16) __builtin_prefetch(at + i);
        for (int lane = 0; lane < LANES; ++lane) {
          const int64_t n = sets.counts[k], before = k ? sets.counts[0] : 0;
          const float* from = sets.distances[k] + rays[lane] * n;
          for (int64_t s = 0; s < n; ++s)
            keys[(before + s) * LANES + lane] = int64_t(ordered(from[s])) * (1LL << 32) + before + s;
        }
      }
      sort(keys, count);
    }
    for (int64_t s = 0; s < count; ++s)
      for (int lane = 0; lane < LANES; ++lane) {
        const float* from = at(sets.samples, s, lane);
        for (int k = 0; k < 4; ++k) sample[k][s * LANES + lane] = from[k];
        t[s * LANES + lane] = sets.counts[1] ? unordered(int32_t(keys[s * LANES + lane] >> 32))
                                             : sets.distances[0][rays[lane] * count + s];
      }
    if (sets.sigmoid)
      for (int k = 0; k < 3; ++k)
        for (int64_t s = 0; s < count; ++s) store(sample[k], s, sigmoid(load(sample[k], s)));
  }

  // The value of an interval: its sample, or the mean of both ends.
  Floats interval(const float* values, int64_t s) const {
    const Floats own = load(values, s);
    return sets.midpoint ? (own + load(values, s + 1)) * 0.5f : own;
  }

  Floats color(int k, int64_t s) const {
    const Floats value = interval(sample[k], s);
    return sets.sigmoid ? value * 1.002f - 0.001f : value;
  }

  Floats length(int64_t s) const { return s + 1 < count ? load(t, s + 1) - load(t, s) : broadcast(sets.last); }
};

// Calls `work(group)` for each group of rays, in `pieces` parts of the rays.
template <class Work>
void for_each_group(const Sets* sets, int64_t rays, int64_t pieces, const Threads* threads, Work work) {
  threads->for_each(pieces, [&](int64_t k) {
    static thread_local std::vector<float> memory;
    memory.resize(ROWS * LANES * (sets->counts[0] + sets->counts[1]) + 16);  // one more cache line, to align the rest
    const auto at = reinterpret_cast<uintptr_t>(memory.data());
    RayGroup group(*sets, reinterpret_cast<float*>((at + 63) / 64 * 64));
    const int64_t end = rays * (k + 1) / pieces;
    for (int64_t first = rays * k / pieces; first < end; first += LANES) {
      group.gather(first, end);
      work(group);
    }
  });
}

}  // namespace

extern "C" {

// rgb [rays][3], depth [rays], weights [rays][intervals], transmittance [rays].
void composite_forward(const Sets* sets, float* rgb, float* depth, float* weights, float* transmittance, int64_t rays,
                       int64_t pieces, const Threads* threads) {
  for_each_group(sets, rays, pieces, threads, [=](const RayGroup& group) {
    const int64_t n = group.intervals;
    Floats light = broadcast(1), total = {}, sums[4] = {};
    const auto add = [&](int64_t s, Floats weight) {
      for (int k = 0; k < 3; ++k) sums[k] += weight * group.color(k, s);
      sums[3] += weight * group.interval(group.t, s);
      total += weight;
    };
    for (int64_t s = 0; s < n; ++s) {
      const Softplus density(group.interval(group.sample[3], s) + sets->bias);
      const Exponential passed(-(density.value * group.length(s)));
      const Floats weight = -passed.minus_one * light;
      add(s, weight);
      store(group.weight, s, weight);
      light *= passed.value + 1e-10f;
    }
    if (sets->last_back) {
      const Floats rest = 1 - total;
      add(n - 1, rest);
      store(group.weight, n - 1, load(group.weight, n - 1) + rest);
    }
    for (int k = 0; k < 3; ++k) {
      if (sets->white) sums[k] += 1 - total;
      if (sets->sigmoid) sums[k] = sums[k] * 2 - 1;
    }
    for (int lane = 0; lane < group.num_rays; ++lane) {
      const int64_t ray = group.rays[lane];
      for (int k = 0; k < 3; ++k) rgb[ray * 3 + k] = sums[k][lane];
      depth[ray] = sums[3][lane];
      transmittance[ray] = light[lane];
      for (int64_t s = 0; s < n; ++s) weights[ray * n + s] = group.weight[s * LANES + lane];
    }
  });
}

// Gradients of the samples, in the layout of the samples. Computes the weights again.
void composite_backward(const Sets* sets, const Gradients* gradients, float* grad_first, float* grad_second,
                        int64_t rays, int64_t pieces, const Threads* threads) {
  for_each_group(sets, rays, pieces, threads, [=](const RayGroup& group) {
    const int64_t n = group.intervals, count = group.count;
    float* const outs[2] = {grad_first, grad_second};
    float *before = group.spare, *alpha = before + count * LANES, *passed = alpha + count * LANES;
    float *slope = passed + count * LANES, *given = slope + count * LANES;
    Floats to_rgb[3] = {}, to_depth = {}, behind = {};
    for (int lane = 0; lane < group.num_rays; ++lane) {
      const int64_t ray = group.rays[lane];
      if (gradients->rgb)
        for (int k = 0; k < 3; ++k) to_rgb[k][lane] = gradients->rgb[ray * 3 + k] * (sets->sigmoid ? 2.0f : 1.0f);
      if (gradients->depth) to_depth[lane] = gradients->depth[ray];
      if (gradients->transmittance) behind[lane] = gradients->transmittance[ray];
      if (gradients->weights)
        for (int64_t s = 0; s < n; ++s) given[s * LANES + lane] = gradients->weights[ray * n + s];
    }

    Floats light = broadcast(1), rest = broadcast(1);
    for (int64_t s = 0; s < n; ++s) {
      const Floats length = group.length(s);
      const Softplus density(group.interval(group.sample[3], s) + sets->bias);
      const Exponential through(-(density.value * length));
      const Floats weight = -through.minus_one * light;
      store(before, s, light);
      store(alpha, s, -through.minus_one);
      store(passed, s, through.value + 1e-10f);
      store(slope, s, through.value * length * density.slope);
      store(group.weight, s, weight);
      rest -= weight;
      light *= through.value + 1e-10f;
    }

    const auto to_weight = [&](int64_t s) {
      Floats sum = to_depth * group.interval(group.t, s);
      for (int k = 0; k < 3; ++k) sum += to_rgb[k] * (group.color(k, s) - (sets->white ? 1.0f : 0.0f));
      return gradients->weights ? sum + load(given, s) : sum;
    };
    Floats to_last = {};
    if (sets->last_back) {  // the last weight is one minus the others
      store(group.weight, n - 1, load(group.weight, n - 1) + rest);
      to_last = to_weight(n - 1);
    }
    // `behind` is the gradient of the light that passes the sample: from the samples behind it, and from transmittance.
    for (int64_t s = n - 1; s >= 0; --s) {
      const Floats worth = to_weight(s) - to_last;
      store(slope, s, load(slope, s) * load(before, s) * (worth - behind));
      behind = load(alpha, s) * worth + load(passed, s) * behind;
    }

    // Gradients of the samples overwrite the samples.
    const auto to_sample = [&](const float* of_intervals, int64_t s) {
      const Floats own = s < n ? load(of_intervals, s) : broadcast(0);
      return sets->midpoint ? 0.5f * (s > 0 ? own + load(of_intervals, s - 1) : own) : own;
    };
    for (int64_t s = 0; s < count; ++s) {
      const Floats share = to_sample(group.weight, s);
      for (int k = 0; k < 3; ++k) {
        const Floats value = load(group.sample[k], s), to_color = share * to_rgb[k];
        store(group.sample[k], s, sets->sigmoid ? to_color * 1.002f * value * (1 - value) : to_color);
      }
      store(group.sample[3], s, to_sample(slope, s));
    }
    for (int64_t s = 0; s < count; ++s)
      for (int lane = 0; lane < group.num_rays; ++lane) {
        float* to = group.at(outs, s, lane);
        for (int k = 0; k < 4; ++k) to[k] = group.sample[k][s * LANES + lane];
      }
  });
}

// Distances out [rays][fine], drawn with uniform numbers u [rays][fine] from the weights of a single set.
void importance(const Sets* sets, const float* u, float* out, int64_t fine, int64_t rays, int64_t pieces,
                const Threads* threads) {
  for_each_group(sets, rays, pieces, threads, [=](const RayGroup& group) {
    float *cdf = group.weight, *edges = group.spare;
    const int64_t bins = group.count - 1;
    Floats light = broadcast(1), total = {};
    for (int64_t s = 0; s < bins; ++s) {
      const Softplus density(load(group.sample[3], s) + sets->bias);
      const Exponential passed(-(density.value * group.length(s)));
      // The weight of the first sample does not count: there the CDF is 0.
      const Floats mass = s ? -passed.minus_one * light + FLOOR : broadcast(0);
      light *= passed.value + 1e-10f;
      total += mass;
      store(cdf, s, total);
      store(edges, s, (load(group.t, s) + load(group.t, s + 1)) * 0.5f);
    }
    for (int64_t s = 1; s < bins; ++s) store(cdf, s, load(cdf, s) / total);
    for (int64_t start = 0; start < fine; start += DRAWS) {
      const int draws = int(std::min<int64_t>(DRAWS, fine - start));
      Floats value[DRAWS] = {}, cdf_below[DRAWS], cdf_above[DRAWS], edge_below[DRAWS], edge_above[DRAWS];
      Ints under[DRAWS] = {};
      for (int j = 0; j < draws; ++j)
        for (int lane = 0; lane < LANES; ++lane) value[j][lane] = u[group.rays[lane] * fine + start + j];
      for (int64_t s = 0; s < bins; ++s)
        for (int j = 0; j < DRAWS; ++j) under[j] -= load(cdf, s) <= value[j];
      for (int j = 0; j < draws; ++j)
        for (int lane = 0; lane < LANES; ++lane) {
          const int64_t below = std::max<int64_t>(under[j][lane] - 1, 0) * LANES + lane;
          const int64_t above = std::min<int64_t>(under[j][lane], bins - 1) * LANES + lane;
          cdf_below[j][lane] = cdf[below], cdf_above[j][lane] = cdf[above];
          edge_below[j][lane] = edges[below], edge_above[j][lane] = edges[above];
        }
      for (int j = 0; j < draws; ++j) {
        Floats width = cdf_above[j] - cdf_below[j];
        width = width < 1e-5f ? broadcast(1) : width;
        const Floats drawn = edge_below[j] + (value[j] - cdf_below[j]) / width * (edge_above[j] - edge_below[j]);
        for (int lane = 0; lane < group.num_rays; ++lane) out[group.rays[lane] * fine + start + j] = drawn[lane];
      }
    }
  });
}

}  // extern "C"

// 3x3 convolutions on a CPU with a quarter of the multiplications: F(4x4, 3x3) of Lavin and Gray (2016), section 4.3.
//
// Pictures are cut into tiles of 4x4 results, each from 6x6 inputs. Tiles and weights go through small linear maps
// (interpolation at 0, 1, -1, 2, -2 and infinity), after which a convolution is 36 independent products of matrices
// over channels. Tiles are worked off in blocks that stay in the nearest caches. All memory is channels last, channels
// are multiples of 16, and every number is summed in a fixed order: results do not depend on the number of threads.
// winograd.py says what the arguments mean.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "team.h"
#include "vectors.h"

namespace {

typedef float Lanes __attribute__((vector_size(64), aligned(4)));
constexpr int L = 16;          // channels of a vector
constexpr int POINTS = 36;     // of a transformed tile
constexpr int TILES = 24;      // of a block
constexpr int PAD = L;         // numbers between points
constexpr int ROWS = 6;        // tiles whose sums share the registers; divides TILES
constexpr int PIECE = 2 * L;   // input channels whose weights a thread takes at a time

Lanes load(const float* from) { return ::load<Lanes>(from); }

// From the numbers of a point to those of the next, of a block of tiles and of weights. Without the padding these would
// be multiples of a page, and all points would share few sets of the nearest cache: weights took 3.6 times as long.
int64_t apart(int64_t channels) { return TILES * channels + PAD; }

int64_t weights_apart(int64_t in, int64_t out) { return in * out + PAD; }

// Memory of this thread, aligned to a cache line.
float* scratch(int which, int64_t floats) {
  static thread_local std::vector<float> memory[3];
  if (int64_t(memory[which].size()) < floats + L) memory[which].resize(floats + L);
  const auto at = reinterpret_cast<uintptr_t>(memory[which].data());
  return reinterpret_cast<float*>((at + 63) / 64 * 64);
}

// Lanes of a and, from L on, b, in this order.
template <int... FROM>
Lanes shuffled(Lanes a, Lanes b) {
#ifdef __clang__
  return __builtin_shufflevector(a, b, FROM...);
#else
  typedef int32_t Places __attribute__((vector_size(64)));
  return __builtin_shuffle(a, b, Places{FROM...});
#endif
}

// The quarters off the diagonal of squares of 2 STEP lanes change places.
template <int STEP, int... I>
void exchange(Lanes rows[L], std::integer_sequence<int, I...>) {
  for (int i = 0; i < L; ++i) {
    if (i & STEP) continue;
    const Lanes a = rows[i], b = rows[i + STEP];
    rows[i] = shuffled<(I & STEP ? I + L - STEP : I)...>(a, b);
    rows[i + STEP] = shuffled<(I & STEP ? I + L : I + STEP)...>(a, b);
  }
}

// Rows become columns.
void transpose(Lanes rows[L]) {
  constexpr std::make_integer_sequence<int, L> lanes;
  exchange<8>(rows, lanes);
  exchange<4>(rows, lanes);
  exchange<2>(rows, lanes);
  exchange<1>(rows, lanes);
}

const float* zeros(int64_t floats) {
  float* memory = scratch(2, floats);
  std::memset(memory, 0, floats * 4);
  return memory;
}

// The one-dimensional maps, applied to rows and columns.

void input_map(const Lanes d[6], Lanes to[6]) {  // B^T: six inputs to their values at the points
  const Lanes a = d[4] - 4.0f * d[2], b = d[3] - 4.0f * d[1], c = d[4] - d[2], e = 2.0f * (d[3] - d[1]);
  to[0] = 4.0f * d[0] - 5.0f * d[2] + d[4];
  to[1] = a + b;
  to[2] = a - b;
  to[3] = c + e;
  to[4] = c - e;
  to[5] = 4.0f * d[1] - 5.0f * d[3] + d[5];
}

void output_map(const Lanes m[6], Lanes to[4]) {  // A^T: values at the points to four results
  const Lanes a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], d = m[3] - m[4];
  to[0] = m[0] + a + c;
  to[1] = b + 2.0f * d;
  to[2] = a + 4.0f * c;
  to[3] = b + 8.0f * d + m[5];
}

void output_map_transposed(const Lanes g[4], Lanes to[6]) {  // A
  const Lanes a = g[0] + g[2], b = g[1] + g[3], c = g[0] + 4.0f * g[2], d = 2.0f * g[1] + 8.0f * g[3];
  to[0] = g[0];
  to[1] = a + b;
  to[2] = a - b;
  to[3] = c + d;
  to[4] = c - d;
  to[5] = g[3];
}

void weight_map(const Lanes g[3], Lanes to[6]) {  // G: three weights to their values at the points
  const Lanes a = (g[0] + g[2]) * (-1.0f / 6), b = g[1] * (-1.0f / 6);
  const Lanes c = g[0] * (1.0f / 24) + g[2] * (1.0f / 6), d = g[1] * (1.0f / 12);
  to[0] = g[0] * 0.25f;
  to[1] = a + b;
  to[2] = a - b;
  to[3] = c + d;
  to[4] = c - d;
  to[5] = g[2];
}

void weight_map_transposed(const Lanes u[6], Lanes to[3]) {  // G^T
  const Lanes a = u[1] + u[2], b = u[1] - u[2], c = u[3] + u[4], d = u[3] - u[4];
  to[0] = u[0] * 0.25f - a * (1.0f / 6) + c * (1.0f / 24);
  to[1] = b * (-1.0f / 6) + d * (1.0f / 12);
  to[2] = (c - a) * (1.0f / 6) + u[5];
}

}  // namespace

extern "C" {

struct Size {
  int64_t batch, height, width, in, out;

  int64_t tiles() const { return batch * ((height + 3) / 4) * ((width + 3) / 4); }
};

}  // extern "C"

namespace {

// One tile of the picture: which image, and the row and column of its first result.
struct Place {
  int64_t image, row, column;

  Place(const Size& size, int64_t tile) {
    const int64_t across = (size.width + 3) / 4, down = (size.height + 3) / 4;
    image = tile / (across * down);
    row = tile / across % down * 4;
    column = tile % across * 4;
  }
};

struct Picture {
  const float* at;
  int64_t height, width, channels;
  const float* zeros;  // a pixel beyond the border

  const float* pixel(int64_t image, int64_t y, int64_t x) const {
    const bool inside = y >= 0 && y < height && x >= 0 && x < width;
    return inside ? at + ((image * height + y) * width + x) * channels : zeros;
  }
};

// Channels [first, last) of N x N pixels from (row, column) on, through `map` along both axes, to
// `to` [POINTS][TILES][channels], points `apart`.
template <int N, void (*map)(const Lanes*, Lanes*)>
void to_points(const Picture& picture, int64_t image, int64_t row, int64_t column, int64_t first, int64_t last,
               float* to, int tile) {
  const float* pixels[N][N];
  for (int i = 0; i < N; ++i)
    for (int j = 0; j < N; ++j) pixels[i][j] = picture.pixel(image, row + i, column + j);
  for (int64_t c = first; c < last; c += L) {
    Lanes rows[N][6];
    for (int i = 0; i < N; ++i) {
      Lanes line[N];
      for (int j = 0; j < N; ++j) line[j] = load(pixels[i][j] + c);
      map(line, rows[i]);
    }
    for (int j = 0; j < 6; ++j) {
      Lanes line[N], values[6];
      for (int i = 0; i < N; ++i) line[i] = rows[i][j];
      map(line, values);
      float* at = to + j * apart(picture.channels) + tile * picture.channels + c;
      for (int i = 0; i < 6; ++i) store(at + 6 * i * apart(picture.channels), values[i]);
    }
  }
}

// sums[tile][k] = sum over c of values[tile][c] * weights[c][k], for V vectors of k.
template <int V>
void multiply(const float* values, const float* weights, float* sums, int64_t in, int64_t out, int tiles) {
  for (int t = 0; t < tiles; t += ROWS) {
    Lanes total[ROWS][V] = {};
    for (int64_t c = 0; c < in; ++c) {
      Lanes weight[V];
      for (int v = 0; v < V; ++v) weight[v] = load(weights + c * out + v * L);
      for (int j = 0; j < ROWS; ++j)
        for (int v = 0; v < V; ++v) total[j][v] += values[(t + j) * in + c] * weight[v];
    }
    for (int j = 0; j < ROWS; ++j)
      for (int v = 0; v < V; ++v) store(sums + (t + j) * out + v * L, total[j][v]);
  }
}

// sums[c][k] += sum over tiles of values[tile][c] * gradients[tile][k], for V vectors of k and first <= c < last.
template <int V>
void multiply_transposed(const float* values, const float* gradients, float* sums, int64_t in, int64_t out,
                         int64_t first, int64_t last, int tiles) {
  constexpr int GROUP = 16 / V;
  for (int64_t c = first; c < last; c += GROUP) {
    Lanes total[GROUP][V];
    for (int j = 0; j < GROUP; ++j)
      for (int v = 0; v < V; ++v) total[j][v] = load(sums + (c + j) * out + v * L);
    for (int t = 0; t < tiles; ++t) {
      Lanes gradient[V];
      for (int v = 0; v < V; ++v) gradient[v] = load(gradients + t * out + v * L);
      for (int j = 0; j < GROUP; ++j)
        for (int v = 0; v < V; ++v) total[j][v] += values[t * in + c + j] * gradient[v];
    }
    for (int j = 0; j < GROUP; ++j)
      for (int v = 0; v < V; ++v) store(sums + (c + j) * out + v * L, total[j][v]);
  }
}

// Weights at the points for input channels [first, last).
void weights_of_inputs(const float* weights, float* to, int64_t in, int64_t out, bool transposed, int64_t first,
                       int64_t last) {
  const int64_t rows_here = last - first;
  float* taps = scratch(0, 9 * rows_here * out);  // [9][first to last][out]
  if (transposed) {
    for (int64_t c = first; c < last; ++c)
      for (int tap = 0; tap < 9; ++tap)
        std::memcpy(taps + ((8 - tap) * rows_here + c - first) * out, weights + (c * 9 + tap) * out, out * 4);
  } else {
    for (int64_t k = 0; k < out; k += L)
      for (int tap = 0; tap < 9; ++tap)
        for (int64_t c = first; c < last; c += L) {
          Lanes square[L];
          for (int i = 0; i < L; ++i) square[i] = load(weights + ((k + i) * 9 + tap) * in + c);
          transpose(square);
          for (int i = 0; i < L; ++i) store(taps + (tap * rows_here + c - first + i) * out + k, square[i]);
        }
  }
  for (int64_t at = 0; at < rows_here * out; at += L) {
    Lanes rows[3][6];
    for (int i = 0; i < 3; ++i) {
      Lanes line[3];
      for (int j = 0; j < 3; ++j) line[j] = load(taps + (i * 3 + j) * rows_here * out + at);
      weight_map(line, rows[i]);
    }
    for (int j = 0; j < 6; ++j) {
      const Lanes line[3] = {rows[0][j], rows[1][j], rows[2][j]};
      Lanes values[6];
      weight_map(line, values);
      for (int i = 0; i < 6; ++i) store(to + (i * 6 + j) * weights_apart(in, out) + first * out + at, values[i]);
    }
  }
}

// Results of `count` tiles from `start` on, at most TILES.
void convolve_tiles(const float* x, const float* weights, const float* bias, float* y, const Size& size, int64_t start,
                    int count) {
  const int64_t in = size.in, out = size.out;
  const Picture picture{x, size.height, size.width, in, zeros(in)};
  float* values = scratch(0, POINTS * apart(in));
  float* sums = scratch(1, POINTS * apart(out));
  for (int t = 0; t < count; ++t) {
    const Place place(size, start + t);
    to_points<6, input_map>(picture, place.image, place.row - 1, place.column - 1, 0, in, values, t);
  }
  for (int p = 0; p < POINTS; ++p) {
    const float *from = values + p * apart(in), *by = weights + p * weights_apart(in, out);
    float* to = sums + p * apart(out);
    int64_t k = 0;
    for (; k + 4 * L <= out; k += 4 * L) multiply<4>(from, by + k, to + k, in, out, count);
    for (; k < out; k += L) multiply<1>(from, by + k, to + k, in, out, count);
  }
  for (int t = 0; t < count; ++t) {
    const Place place(size, start + t);
    const int64_t height = std::min<int64_t>(4, size.height - place.row);
    const int64_t width = std::min<int64_t>(4, size.width - place.column);
    for (int64_t k = 0; k < out; k += L) {
      Lanes columns[4][6];
      for (int j = 0; j < 6; ++j) {
        Lanes line[6], results[4];
        for (int i = 0; i < 6; ++i) line[i] = load(sums + (i * 6 + j) * apart(out) + t * out + k);
        output_map(line, results);
        for (int i = 0; i < 4; ++i) columns[i][j] = results[i];
      }
      const Lanes offset = bias ? load(bias + k) : Lanes{};
      for (int64_t i = 0; i < height; ++i) {
        Lanes results[4];
        output_map(columns[i], results);
        float* to = y + ((place.image * size.height + place.row + i) * size.width + place.column) * out + k;
        for (int64_t j = 0; j < width; ++j) store(to + j * out, results[j] + offset);
      }
    }
  }
}

// Gradient of the weights at the points for input channels [first, last), from all tiles.
void weight_sums_of_inputs(const float* x, const float* gradient, float* sums, const Size& size, int64_t first,
                           int64_t last) {
  const int64_t in = size.in, out = size.out;
  const float* beyond = zeros(std::max(in, out));
  const Picture picture{x, size.height, size.width, in, beyond};
  const Picture results{gradient, size.height, size.width, out, beyond};
  float* values = scratch(0, POINTS * apart(in));
  float* gradients = scratch(1, POINTS * apart(out));
  for (int p = 0; p < POINTS; ++p)
    std::memset(sums + p * weights_apart(in, out) + first * out, 0, (last - first) * out * 4);
  for (int64_t start = 0; start < size.tiles(); start += TILES) {
    const int count = int(std::min<int64_t>(TILES, size.tiles() - start));
    for (int t = 0; t < count; ++t) {
      const Place place(size, start + t);
      to_points<6, input_map>(picture, place.image, place.row - 1, place.column - 1, first, last, values, t);
      to_points<4, output_map_transposed>(results, place.image, place.row, place.column, 0, out, gradients, t);
    }
    for (int p = 0; p < POINTS; ++p) {
      const float *from = values + p * apart(in), *by = gradients + p * apart(out);
      float* to = sums + p * weights_apart(in, out);
      int64_t k = 0;
      for (; k + 2 * L <= out; k += 2 * L) multiply_transposed<2>(from, by + k, to + k, in, out, first, last, count);
      for (; k < out; k += L) multiply_transposed<1>(from, by + k, to + k, in, out, first, last, count);
    }
  }
}

}  // namespace

extern "C" {

// Weights to their values at the points, [POINTS][in][out], points `weights_apart`. They are [out][3][3][in], or,
// `transposed`, [in][3][3][out] and turned by half a turn: the gradient of the input is the convolution of the results'
// gradient with these.
void winograd_weights(const float* weights, float* to, int64_t in, int64_t out, int32_t transposed, const Team* team) {
  team->share((in + PIECE - 1) / PIECE, [=](int64_t piece) {
    weights_of_inputs(weights, to, in, out, transposed, piece * PIECE, std::min(in, (piece + 1) * PIECE));
  });
}

// Results; bias [out] or null.
void winograd_convolve(const float* x, const float* weights, const float* bias, float* y, const Size* size,
                       const Team* team) {
  const int64_t tiles = size->tiles(), each = (tiles + team->threads - 1) / team->threads;
  const int64_t block = std::min<int64_t>(TILES, (each + ROWS - 1) / ROWS * ROWS);
  team->share((tiles + block - 1) / block, [=](int64_t k) {
    convolve_tiles(x, weights, bias, y, *size, k * block, int(std::min(block, tiles - k * block)));
  });
}

// Gradient of the weights at the points, [POINTS][in][out]. Threads share out input channels rather than tiles, whose
// sums would then depend on how; the gradients are transformed by each thread again, which is the lesser work.
void winograd_weight_sums(const float* x, const float* gradient, float* sums, const Size* size, const Team* team) {
  const int64_t vectors = size->in / L, each = (vectors + team->threads - 1) / team->threads * L;
  team->share((size->in + each - 1) / each, [=](int64_t piece) {
    weight_sums_of_inputs(x, gradient, sums, *size, piece * each, std::min(size->in, (piece + 1) * each));
  });
}

// From the gradient at the points, [POINTS][in][out], to that of the weights [out][3][3][in].
void winograd_weight_gradient(const float* sums, float* to, int64_t in, int64_t out, const Team* team) {
  const int64_t across = out / L;
  team->share(in / L * across, [=](int64_t piece) {
    const int64_t c = piece / across * L, k = piece % across * L;
    Lanes squares[9][L];
    for (int row = 0; row < L; ++row) {
      Lanes columns[3][6];
      for (int j = 0; j < 6; ++j) {
        Lanes line[6], taps[3];
        for (int i = 0; i < 6; ++i) line[i] = load(sums + (i * 6 + j) * weights_apart(in, out) + (c + row) * out + k);
        weight_map_transposed(line, taps);
        for (int i = 0; i < 3; ++i) columns[i][j] = taps[i];
      }
      for (int i = 0; i < 3; ++i) {
        Lanes taps[3];
        weight_map_transposed(columns[i], taps);
        for (int j = 0; j < 3; ++j) squares[i * 3 + j][row] = taps[j];
      }
    }
    for (int tap = 0; tap < 9; ++tap) {
      transpose(squares[tap]);
      for (int i = 0; i < L; ++i) store(to + ((k + i) * 9 + tap) * in + c, squares[tap][i]);
    }
  });
}

}  // extern "C"

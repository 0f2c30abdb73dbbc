// Convolution and its adjoints, batch norm, leaky ReLU, a blur and updates for MindSpore's Custom operator on a CPU with
// AVX2, in float32.
//
// MindSpore gives oneDNN plain (n, c, h, w) arrays, for which it has no better way than patches times a matrix. Here
// oneDNN chooses the layout, mostly blocks of eight channels, and the reorders to and from it cost less than it gains.
// It is the oneDNN that MindSpore has loaded; its C API (stable in version 3) is declared here, as no headers come along.

#include <immintrin.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

// ── oneDNN

extern "C" {
struct dnnl_engine;
struct dnnl_stream;
struct dnnl_memory;
struct dnnl_memory_desc;
struct dnnl_primitive;
struct dnnl_primitive_desc;
struct dnnl_primitive_attr;
struct dnnl_argument {
  int name;
  dnnl_memory *memory;
};
using Layout = const dnnl_memory_desc *;
using Sizes = const int64_t *;
using Attributes = const dnnl_primitive_attr *;
int dnnl_engine_create(dnnl_engine **, int kind, size_t index);
int dnnl_stream_create(dnnl_stream **, dnnl_engine *, unsigned flags);
int dnnl_stream_destroy(dnnl_stream *);
int dnnl_memory_desc_create_with_tag(dnnl_memory_desc **, int rank, Sizes, int type, int tag);
int dnnl_memory_desc_destroy(dnnl_memory_desc *);
int dnnl_memory_desc_equal(Layout, Layout);
size_t dnnl_memory_desc_get_size(Layout);
int dnnl_memory_create(dnnl_memory **, Layout, dnnl_engine *, void *data);
int dnnl_memory_destroy(dnnl_memory *);
int dnnl_primitive_attr_create(dnnl_primitive_attr **);
int dnnl_primitive_attr_destroy(dnnl_primitive_attr *);
int dnnl_primitive_attr_set_scratchpad_mode(dnnl_primitive_attr *, int mode);
int dnnl_convolution_forward_primitive_desc_create(dnnl_primitive_desc **, dnnl_engine *, int purpose, int algorithm,
    Layout x, Layout weight, Layout bias, Layout y, Sizes strides, Sizes dilations, Sizes before, Sizes after, Attributes);
int dnnl_convolution_backward_data_primitive_desc_create(dnnl_primitive_desc **, dnnl_engine *, int algorithm,
    Layout x, Layout weight, Layout y, Sizes strides, Sizes dilations, Sizes before, Sizes after,
    const dnnl_primitive_desc *forward, Attributes);
int dnnl_convolution_backward_weights_primitive_desc_create(dnnl_primitive_desc **, dnnl_engine *, int algorithm,
    Layout x, Layout weight, Layout bias, Layout y, Sizes strides, Sizes dilations, Sizes before, Sizes after,
    const dnnl_primitive_desc *forward, Attributes);
int dnnl_reorder_primitive_desc_create(
    dnnl_primitive_desc **, Layout from, dnnl_engine *, Layout to, dnnl_engine *, Attributes);
Layout dnnl_primitive_desc_query_md(const dnnl_primitive_desc *, int what, int index);
int dnnl_primitive_desc_destroy(dnnl_primitive_desc *);
int dnnl_primitive_create(dnnl_primitive **, const dnnl_primitive_desc *);
int dnnl_primitive_destroy(dnnl_primitive *);
int dnnl_primitive_execute(const dnnl_primitive *, dnnl_stream *, int count, const dnnl_argument *);
int dnnl_threadpool_interop_get_max_concurrency(int *);
int dnnl_threadpool_interop_set_max_concurrency(int);
}

namespace {

// Values of oneDNN's enumerations.
constexpr int CPU = 1, IN_ORDER = 1, FLOAT32 = 3, ANY = 1, NCHW = 5, TRAINING = 64, DIRECT = 1, USER_SCRATCHPAD = 1;
constexpr int QUERY_SCRATCHPAD = 136;
enum Argument { SRC = 1, DST = 17, WEIGHTS = 33, SCRATCHPAD = 80, DIFF_SRC = 129, DIFF_DST = 145, DIFF_WEIGHTS = 161 };
enum Query { QUERY_SRC = 129, QUERY_DIFF_SRC, QUERY_WEIGHTS, QUERY_DIFF_WEIGHTS, QUERY_DST, QUERY_DIFF_DST };

void check(int status, const char *call) {
  if (status) throw std::string(call) + " failed with status " + std::to_string(status);
}
#define CHECK(function, ...) check(function(__VA_ARGS__), #function)

template <auto destroy> struct Destroy {
  template <class T> void operator()(T *object) const { destroy(object); }
};
template <class T, auto destroy> using Owned = std::unique_ptr<T, Destroy<destroy>>;
using OwnedLayout = Owned<dnnl_memory_desc, dnnl_memory_desc_destroy>;
using Memory = Owned<dnnl_memory, dnnl_memory_destroy>;
using Primitive = Owned<dnnl_primitive, dnnl_primitive_destroy>;
using Description = Owned<dnnl_primitive_desc, dnnl_primitive_desc_destroy>;

dnnl_engine *engine() {
  static dnnl_engine *made = [] {
    dnnl_engine *engine;
    CHECK(dnnl_engine_create, &engine, CPU, 0);
    return engine;
  }();
  return made;
}

// One thread per primitive: the order in which a weight gradient is summed, and so its bits, depend on their number.
struct OneThread {
  int before = 0;
  OneThread() {
    CHECK(dnnl_threadpool_interop_get_max_concurrency, &before);
    CHECK(dnnl_threadpool_interop_set_max_concurrency, 1);
  }
  ~OneThread() { dnnl_threadpool_interop_set_max_concurrency(before); }
};

size_t whole_pages(size_t bytes) { return (bytes + 4095) / 4096 * 4096; }

OwnedLayout layout(Sizes sizes, int tag) {
  dnnl_memory_desc *made;
  CHECK(dnnl_memory_desc_create_with_tag, &made, 4, sizes, FLOAT32, tag);
  return OwnedLayout(made);
}

Memory memory(Layout layout, void *data) {
  dnnl_memory *made;
  CHECK(dnnl_memory_create, &made, layout, engine(), data);
  return Memory(made);
}

Primitive primitive(const dnnl_primitive_desc *description) {
  dnnl_primitive *made;
  CHECK(dnnl_primitive_create, &made, description);
  return Primitive(made);
}

// ── Convolution: (x, weight) → y, and its two adjoints: (y, weight) → x and (x, y) → weight

enum Kind { FORWARD, TO_INPUT, TO_WEIGHT };
enum Part { X, WEIGHT, Y };
// For each kind: which part its two inputs and its output are, what oneDNN calls them, and how it asks for their layout.
constexpr Part PARTS[3][3] = {{X, WEIGHT, Y}, {Y, WEIGHT, X}, {X, Y, WEIGHT}};
constexpr Argument NAMES[3][3] = {{SRC, WEIGHTS, DST}, {DIFF_DST, WEIGHTS, DIFF_SRC}, {SRC, DIFF_DST, DIFF_WEIGHTS}};
constexpr Query QUERIES[3][3] = {{QUERY_SRC, QUERY_WEIGHTS, QUERY_DST},
                                 {QUERY_DIFF_DST, QUERY_WEIGHTS, QUERY_DIFF_SRC},
                                 {QUERY_SRC, QUERY_DIFF_DST, QUERY_DIFF_WEIGHTS}};

// Kind, stride, padding, and the four sizes of both inputs and the output.
using Key = std::array<int64_t, 15>;

// An input or output of a convolution: as MindSpore has it, and, where that differs, as the primitive wants it.
struct Operand {
  OwnedLayout plain;
  Layout wanted;      // of the plan's description
  Primitive reorder;  // none where both layouts are equal
  size_t offset = 0;  // of the wanted form in the workspace
};

// A convolution of given shapes, ready to run from any thread.
struct Plan {
  const Kind kind;
  Description description;
  Primitive convolution;
  Operand operands[3];
  Layout scratchpad;
  size_t scratchpad_offset = 0, bytes = 0;
  explicit Plan(const Key &key);
};

// Blocks of eight channels do not pay for 1x1 kernels, nor where a gradient has few input channels to fill them.
bool better_plain(Kind kind, Sizes x, Sizes weight) {
  bool few = (kind == TO_INPUT && x[1] <= 4) || (kind == TO_WEIGHT && x[1] == 1);
  return few || weight[2] * weight[3] == 1;
}

Plan::Plan(const Key &key) : kind(Kind(key[0])) {
  const int64_t stride = key[1], padding = key[2];
  Sizes sizes[3];  // of X, WEIGHT and Y
  for (int i = 0; i < 3; ++i) sizes[PARTS[kind][i]] = &key[3 + 4 * i];
  const int64_t strides[] = {stride, stride}, dilations[] = {0, 0}, before[] = {padding, padding};
  int64_t after[2];  // less than before where the stride leaves the last pixels out
  for (int i : {0, 1}) after[i] = (sizes[Y][2 + i] - 1) * stride + sizes[WEIGHT][2 + i] - sizes[X][2 + i] - padding;

  dnnl_primitive_attr *attributes;
  CHECK(dnnl_primitive_attr_create, &attributes);
  Owned<dnnl_primitive_attr, dnnl_primitive_attr_destroy> owned_attributes(attributes);
  CHECK(dnnl_primitive_attr_set_scratchpad_mode, attributes, USER_SCRATCHPAD);
  const int tag = better_plain(kind, sizes[X], sizes[WEIGHT]) ? NCHW : ANY;
  OwnedLayout x = layout(sizes[X], tag), weight = layout(sizes[WEIGHT], tag), y = layout(sizes[Y], tag);

  dnnl_primitive_desc *made;
  CHECK(dnnl_convolution_forward_primitive_desc_create, &made, engine(), TRAINING, DIRECT, x.get(), weight.get(),
        nullptr, y.get(), strides, dilations, before, after, attributes);
  description.reset(made);
  Description forward;
  if (kind != FORWARD) forward = std::move(description);
  if (kind == TO_INPUT)
    CHECK(dnnl_convolution_backward_data_primitive_desc_create, &made, engine(), DIRECT, x.get(), weight.get(),
          y.get(), strides, dilations, before, after, forward.get(), attributes);
  if (kind == TO_WEIGHT)
    CHECK(dnnl_convolution_backward_weights_primitive_desc_create, &made, engine(), DIRECT, x.get(), weight.get(),
          nullptr, y.get(), strides, dilations, before, after, forward.get(), attributes);
  if (kind != FORWARD) description.reset(made);
  convolution = primitive(description.get());

  for (int i = 0; i < 3; ++i) {
    Operand &operand = operands[i];
    operand.plain = layout(sizes[PARTS[kind][i]], NCHW);
    operand.wanted = dnnl_primitive_desc_query_md(description.get(), QUERIES[kind][i], 0);
    if (dnnl_memory_desc_equal(operand.plain.get(), operand.wanted)) continue;
    Layout from = operand.plain.get(), to = operand.wanted;
    if (i == 2) std::swap(from, to);
    CHECK(dnnl_reorder_primitive_desc_create, &made, from, engine(), to, engine(), attributes);
    operand.reorder = primitive(Description(made).get());
    operand.offset = bytes;
    bytes += whole_pages(dnnl_memory_desc_get_size(operand.wanted));
  }
  scratchpad = dnnl_primitive_desc_query_md(description.get(), QUERY_SCRATCHPAD, 0);
  scratchpad_offset = bytes;
  bytes += whole_pages(dnnl_memory_desc_get_size(scratchpad));
}

// What a thread needs to itself while it runs a plan.
struct Workspace {
  Owned<dnnl_stream, dnnl_stream_destroy> stream;
  Owned<char, free> buffer;
  size_t bytes = 0;
  Workspace() {
    dnnl_stream *made;
    CHECK(dnnl_stream_create, &made, engine(), IN_ORDER);
    stream.reset(made);
  }
  char *reserve(size_t needed) {
    if (needed > bytes) {
      bytes = 0;
      buffer.reset();  // before the larger one exists
      buffer.reset(static_cast<char *>(aligned_alloc(4096, needed)));
      if (!buffer) throw std::string("no memory for a convolution's workspace");
      bytes = needed;
    }
    return buffer.get();
  }
  void execute(const dnnl_primitive *primitive, int count, const dnnl_argument *arguments) {
    CHECK(dnnl_primitive_execute, primitive, stream.get(), count, arguments);
  }
  void copy(const Primitive &reorder, const Memory &from, const Memory &to) {
    const dnnl_argument arguments[] = {{SRC, from.get()}, {DST, to.get()}};
    execute(reorder.get(), 2, arguments);
  }
};

// The plans made so far, and the workspaces that no thread is using. As many of those exist as threads ran at once.
class Shared {
  static constexpr size_t MOST_PLANS = 1024;
  std::mutex mutex;
  std::map<Key, std::shared_ptr<Plan>> plans;
  std::vector<std::unique_ptr<Workspace>> idle;

 public:
  std::shared_ptr<Plan> plan(const Key &key) {
    std::lock_guard<std::mutex> lock(mutex);
    auto found = plans.find(key);
    if (found != plans.end()) return found->second;
    auto made = std::make_shared<Plan>(key);
    if (plans.size() >= MOST_PLANS) plans.clear();  // of stages long past, mostly; those in use live on
    return plans[key] = made;
  }
  std::unique_ptr<Workspace> borrow() {
    std::lock_guard<std::mutex> lock(mutex);
    if (idle.empty()) return std::make_unique<Workspace>();
    auto workspace = std::move(idle.back());
    idle.pop_back();
    return workspace;
  }
  void give_back(std::unique_ptr<Workspace> workspace) {
    std::lock_guard<std::mutex> lock(mutex);
    idle.push_back(std::move(workspace));
  }
};
Shared &shared() {
  static Shared &made = *new Shared;  // never destroyed: threads may outlive main
  return made;
}

void run(const Plan &plan, Workspace &workspace, void **data) {
  char *base = workspace.reserve(plan.bytes);
  Memory plain[3], wanted[3];
  dnnl_argument arguments[4];
  for (int i = 0; i < 3; ++i) {
    const Operand &operand = plan.operands[i];
    plain[i] = memory(operand.plain.get(), data[i]);
    if (operand.reorder) wanted[i] = memory(operand.wanted, base + operand.offset);
    if (operand.reorder && i < 2) workspace.copy(operand.reorder, plain[i], wanted[i]);
    arguments[i] = {NAMES[plan.kind][i], (operand.reorder ? wanted[i] : plain[i]).get()};
  }
  Memory scratchpad = memory(plan.scratchpad, base + plan.scratchpad_offset);
  arguments[3] = {SCRATCHPAD, scratchpad.get()};
  workspace.execute(plan.convolution.get(), 4, arguments);
  if (plan.operands[2].reorder) workspace.copy(plan.operands[2].reorder, wanted[2], plain[2]);
}

// 0, or 1 after a line that says what failed: MindSpore then raises.
int convolve(Kind kind, int64_t stride, int64_t padding, void **data, int64_t **shapes) {
  Key key{kind, stride, padding};
  for (int i = 0; i < 12; ++i) key[3 + i] = shapes[i / 4][i % 4];
  try {
    OneThread one_thread;
    auto plan = shared().plan(key);
    auto workspace = shared().borrow();
    run(*plan, *workspace, data);
    shared().give_back(std::move(workspace));
    return 0;
  } catch (const std::string &error) {
    fprintf(stderr, "ganfleet: %s in a convolution of", error.c_str());
    for (int64_t number : key) fprintf(stderr, " %lld", (long long)number);
    fprintf(stderr, " (kind, stride, padding, sizes)\n");
    return 1;
  }
}

}  // namespace

// ── What MindSpore calls: (count, data, ranks, shapes, types, stream, extra), inputs first, the output last

#define OPERATOR(name)  \
  extern "C" int name(int arguments, void **data, int *ranks, int64_t **shapes, const char **, void *, void *)
// convolution_2_1 has stride 2 and padding 1
#define CONVOLUTION(stride, padding)                                                                                \
  OPERATOR(convolution_##stride##_##padding) { return convolve(FORWARD, stride, padding, data, shapes); }           \
  OPERATOR(to_input_##stride##_##padding) { return convolve(TO_INPUT, stride, padding, data, shapes); }             \
  OPERATOR(to_weight_##stride##_##padding) { return convolve(TO_WEIGHT, stride, padding, data, shapes); }
#define STRIDE(stride) CONVOLUTION(stride, 0) CONVOLUTION(stride, 1) CONVOLUTION(stride, 2) CONVOLUTION(stride, 3)
STRIDE(1)
STRIDE(2)

namespace {

float scalar(const void *data) { return *static_cast<const float *>(data); }

// How many values an array of this shape has.
int64_t size(int rank, const int64_t *shape) {
  int64_t values = 1;
  for (int i = 0; i < rank; ++i) values *= shape[i];
  return values;
}

}  // namespace

// (x, y, slope) → y where x > 0, slope · y elsewhere. Leaky ReLU is gate(x, x), its gradient gate(x, dy), and so on.
OPERATOR(gate) {
  auto x = static_cast<const float *>(data[0]), y = static_cast<const float *>(data[1]);
  const float slope = scalar(data[2]);
  auto out = static_cast<float *>(data[3]);
  const int64_t count = size(ranks[0], shapes[0]);
  for (int64_t i = 0; i < count; ++i) out[i] = y[i] * (x[i] > 0 ? 1.0f : slope);
  return 0;
}

// (n, c, h, w), same shape out: [1 2 1] / 4 along h and along w, zero-padded. It is its own adjoint.
OPERATOR(blur) {
  const int64_t images = shapes[0][0] * shapes[0][1], height = shapes[0][2], width = shapes[0][3];
  std::vector<float> padded(width + 2);
  float *sums = padded.data() + 1;  // of three rows; the columns beside them stay zero
  for (int64_t image = 0; image < images; ++image) {
    for (int64_t row = 0; row < height; ++row) {
      const int64_t start = (image * height + row) * width;
      const float *here = static_cast<const float *>(data[0]) + start;
      float *out = static_cast<float *>(data[1]) + start;
      for (int64_t i = 0; i < width; ++i) sums[i] = 2 * here[i];
      if (row > 0)
        for (int64_t i = 0; i < width; ++i) sums[i] += here[i - width];
      if (row + 1 < height)
        for (int64_t i = 0; i < width; ++i) sums[i] += here[i + width];
      for (int64_t i = 0; i < width; ++i) out[i] = (2 * sums[i] + sums[i - 1] + sums[i + 1]) * 0.0625f;
    }
  }
  return 0;
}

// ── Batch norm: each channel's values are near each other in the cache when they are read again

namespace {

typedef float Eight __attribute__((vector_size(32)));

// One value or eight at ``x``, which need not be aligned.
template <class T> T load(const float *x) {
  T value;
  memcpy(&value, x, sizeof value);
  return value;
}

// The sum of f(i) over 0 … count − 1, in eight sums that are added up in double. ``eight`` is f of eight in a row.
template <class F, class G> double sum(int64_t count, F one, G eight) {
  Eight sums = {};
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) sums += eight(i);
  double total = 0;
  for (int k = 0; k < 8; ++k) total += sums[k];
  for (; i < count; ++i) total += one(i);
  return total;
}

Eight at(const float *x, int64_t i) { return load<Eight>(x + i); }

struct Channels {
  int64_t samples, channels, pixels = 1;
  Channels(int rank, const int64_t *shape) : samples(shape[0]), channels(shape[1]) {
    for (int i = 2; i < rank; ++i) pixels *= shape[i];
  }
  // f(start) for each sample's pixels of a channel; the sum of what it returns.
  template <class F> double over(int64_t channel, F f) const {
    double total = 0;
    for (int64_t i = 0; i < samples; ++i) total += f((i * channels + channel) * pixels);
    return total;
  }
  double values() const { return double(samples * pixels); }
};

}  // namespace

// (x, gain, bias, epsilon) → y, and the mean and biased variance of each channel
OPERATOR(norm) {
  const Channels of(ranks[0], shapes[0]);
  auto input = static_cast<const float *>(data[0]), gain = static_cast<const float *>(data[1]);
  auto bias = static_cast<const float *>(data[2]);
  const float epsilon = scalar(data[3]);
  auto output = static_cast<float *>(data[4]), means = static_cast<float *>(data[5]);
  auto variances = static_cast<float *>(data[6]);
  const int64_t pixels = of.pixels;
  for (int64_t c = 0; c < of.channels; ++c) {
    const float mean = of.over(c, [&](int64_t start) {
      const float *x = input + start;
      return sum(pixels, [&](int64_t i) { return x[i]; }, [&](int64_t i) { return at(x, i); });
    }) / of.values();
    const float variance = of.over(c, [&](int64_t start) {
      const float *x = input + start;
      return sum(pixels, [&](int64_t i) { return (x[i] - mean) * (x[i] - mean); },
                 [&](int64_t i) { return (at(x, i) - mean) * (at(x, i) - mean); });
    }) / of.values();
    const float factor = gain[c] / std::sqrt(variance + epsilon), shift = bias[c];
    of.over(c, [&](int64_t start) {
      const float *x = input + start;
      float *y = output + start;
      for (int64_t i = 0; i < pixels; ++i) y[i] = (x[i] - mean) * factor + shift;
      return 0;
    });
    means[c] = mean;
    variances[c] = variance;
  }
  return 0;
}

// (dy, x, gain, mean, variance, epsilon) → dx, dgain, dbias
OPERATOR(norm_gradient) {
  const Channels of(ranks[0], shapes[0]);
  auto slope = static_cast<const float *>(data[0]), input = static_cast<const float *>(data[1]);
  auto gain = static_cast<const float *>(data[2]), means = static_cast<const float *>(data[3]);
  auto variances = static_cast<const float *>(data[4]);
  const float epsilon = scalar(data[5]);
  auto output = static_cast<float *>(data[6]), dgain = static_cast<float *>(data[7]);
  auto dbias = static_cast<float *>(data[8]);
  const int64_t pixels = of.pixels;
  for (int64_t c = 0; c < of.channels; ++c) {
    const float mean = means[c], inverse = 1 / std::sqrt(variances[c] + epsilon);
    const double slopes = of.over(c, [&](int64_t start) {
      const float *dy = slope + start;
      return sum(pixels, [&](int64_t i) { return dy[i]; }, [&](int64_t i) { return at(dy, i); });
    });
    const double products = of.over(c, [&](int64_t start) {
      const float *dy = slope + start, *x = input + start;
      return sum(pixels, [&](int64_t i) { return dy[i] * (x[i] - mean); },
                 [&](int64_t i) { return at(dy, i) * (at(x, i) - mean); });
    });
    dgain[c] = products * inverse;
    dbias[c] = slopes;
    const float factor = gain[c] * inverse, mean_slope = slopes / of.values();
    const float mean_product = products / of.values() * inverse * inverse;
    of.over(c, [&](int64_t start) {
      const float *dy = slope + start, *x = input + start;
      float *dx = output + start;
      for (int64_t i = 0; i < pixels; ++i) dx[i] = ((dy[i] - mean_slope) - (x[i] - mean) * mean_product) * factor;
      return 0;
    });
  }
  return 0;
}

// ── Updates

namespace {

float root(float x) { return std::sqrt(x); }
Eight root(Eight x) { return Eight(_mm256_sqrt_ps(__m256(x))); }

// Adam's vectors, before an update and after it: the same where it is in place, and the new weights twice.
struct Vectors {
  const float *gradient, *weights, *m, *v;
  float *new_weights, *new_m, *new_v, *copy;
};

// Adam on one value of each vector, or on eight. With ``past``, the copy goes past the caches: nobody reads it soon.
template <class T, bool past> void move(int64_t i, const Vectors &of, const float (&scalars)[7]) {
  auto [scale, keep1, take1, keep2, take2, step, epsilon] = scalars;
  const T gradient = load<T>(of.gradient + i) * scale, weight = load<T>(of.weights + i);
  const T m = keep1 * load<T>(of.m + i) + take1 * gradient;
  const T v = keep2 * load<T>(of.v + i) + take2 * (gradient * gradient);
  const T moved = weight - step * (m / (root(v) + epsilon));
  memcpy(of.new_weights + i, &moved, sizeof moved);
  if constexpr (past && sizeof moved == sizeof(Eight)) _mm256_stream_ps(of.copy + i, __m256(moved));
  else memcpy(of.copy + i, &moved, sizeof moved);
  memcpy(of.new_m + i, &m, sizeof m);
  memcpy(of.new_v + i, &v, sizeof v);
}

template <bool past> void move(int64_t count, const Vectors &of, const float (&scalars)[7]) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) move<Eight, past>(i, of, scalars);
  for (; i < count; ++i) move<float, past>(i, of, scalars);
}

void move(int64_t count, const Vectors &of, const float (&scalars)[7]) {
  const bool aligned = reinterpret_cast<uintptr_t>(of.copy) % sizeof(Eight) == 0;
  if (!aligned || of.copy == of.new_weights) return move<false>(count, of, scalars);
  move<true>(count, of, scalars);
  _mm_sfence();
}

}  // namespace

// (gradient, weights, m, v, β1, 1 − β1, β2, 1 − β2, step, ε) → weights, m and v after Adam's update; all vectors (P,)
OPERATOR(adam) {
  float scalars[7] = {1};
  for (int i = 0; i < 6; ++i) scalars[1 + i] = scalar(data[4 + i]);
  auto vector = [&](int which) { return static_cast<float *>(data[which]); };
  auto weights = vector(10), m = vector(11), v = vector(12);
  move(shapes[0][0], {vector(0), vector(1), vector(2), vector(3), weights, m, v, weights}, scalars);
  return 0;
}

// ── In place: their first output is one value that says nothing

// (weights, m, v, gradient, scale, β1, 1 − β1, β2, 1 − β2, step, ε, weight, weight, …): the same, by scale · gradient,
// whose vector may be longer than the others; the new weights also go to those at the end, one behind the other
OPERATOR(adam_in_place) {
  float scalars[7];
  for (int i = 0; i < 7; ++i) scalars[i] = scalar(data[4 + i]);
  auto weights = static_cast<float *>(data[0]), m = static_cast<float *>(data[1]), v = static_cast<float *>(data[2]);
  auto gradient = static_cast<const float *>(data[3]);
  for (int own = 11; own + 1 < arguments; ++own) {
    const int64_t values = size(ranks[own], shapes[own]);
    move(values, {gradient, weights, m, v, weights, m, v, static_cast<float *>(data[own])}, scalars);
    gradient += values, weights += values, m += values, v += values;
  }
  *static_cast<float *>(data[arguments - 1]) = 0;
  return 0;
}

// (average, x, keep): the average becomes x + keep · (average − x); vectors (P,)
OPERATOR(average_in_place) {
  auto average = static_cast<float *>(data[0]);
  auto x = static_cast<const float *>(data[1]);
  const float keep = scalar(data[2]);
  for (int64_t i = 0; i < shapes[0][0]; ++i) average[i] = x[i] + (average[i] - x[i]) * keep;
  *static_cast<float *>(data[3]) = 0;
  return 0;
}

// (flat, weight, weight, …): the weights become what lies one behind the other in flat
OPERATOR(spread_in_place) {
  auto flat = static_cast<const float *>(data[0]);
  for (int weight = 1; weight + 1 < arguments; ++weight) {
    const int64_t values = size(ranks[weight], shapes[weight]);
    memcpy(data[weight], flat, values * sizeof *flat);
    flat += values;
  }
  *static_cast<float *>(data[arguments - 1]) = 0;
  return 0;
}

// ── Whether an update is made at all

// (x) → 1 if all of x is finite, else 0: whether no value has all bits of its exponent set
OPERATOR(all_finite) {
  auto x = static_cast<const uint32_t *>(data[0]);
  const int64_t count = size(ranks[0], shapes[0]);
  uint32_t found = 0;
  for (int64_t i = 0; i < count; ++i) found |= (x[i] & 0x7f800000u) == 0x7f800000u;
  *static_cast<float *>(data[1]) = found ? 0.0f : 1.0f;
  return 0;
}

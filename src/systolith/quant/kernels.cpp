// Fake quantization and its gradients in one pass over memory each; `fused.py` compiles and calls it.
//
// What is computed is `_FakeQuant` of `functional.py`, product by product in the dtype of x, so the values and the
// gradient of x have the same bits. A tensor is `groups` runs of `size` elements; each has a row of constants.

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

struct bf16 {
    uint16_t bits;
};

inline float wide(float f) { return f; }

inline float wide(bf16 b) {
    const uint32_t bits = uint32_t(b.bits) << 16;
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
}

inline void narrow(float f, float &to) { to = f; }

inline void narrow(float f, bf16 &to) {  // to nearest, ties to even; what arithmetic has for NaN stays one
    uint32_t bits;
    std::memcpy(&bits, &f, 4);
    to.bits = uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

template <class T>
inline float rounded(float f) {
    T t;
    narrow(f, t);
    return wide(t);
}

struct Constants {
    float mean, deviation, q, step, clip;
};

struct Range {
    float low, high;  // the smallest and the largest code
    int32_t up;       // whether ties go up
};

// Sums are of chunks, whatever the number of threads: they do not depend on it.
constexpr int64_t CHUNK = 16384;

template <class Body>
inline void in_chunks(int64_t groups, int64_t size, int threads, Body body) {
    const int64_t per = (size + CHUNK - 1) / CHUNK;
#pragma omp parallel for num_threads(threads) schedule(static) if (groups * size > CHUNK)
    for (int64_t chunk = 0; chunk < groups * per; chunk++) {
        const int64_t group = chunk / per, begin = chunk % per * CHUNK;
        body(chunk, group, group * size + begin, begin + CHUNK < size ? CHUNK : size - begin);
    }
}

template <bool NORMAL>
inline float normal(float v, const Constants &c) {
    return NORMAL ? (v - c.mean) / c.deviation : v;
}

// Ties go to even, or UP.
template <class X, bool UP>
inline float code(float v, const Constants &c, const Range &r) {
    v = rounded<X>(v * c.q);
    v = v < r.low ? r.low : v;  // NaN stays what it is
    v = v > r.high ? r.high : v;
    const float nearest = std::rint(v);
    return UP ? nearest + float(v - nearest == 0.5f) : nearest;
}

// The loops are functions of their own: compilers make vectors of them there, not in the closures that call them.

template <class X, class Y, bool NORMAL, bool UP>
void forward_run(const X *__restrict x, Y *__restrict y, int64_t size, Constants c, Range r) {
#pragma omp simd
    for (int64_t i = 0; i < size; i++) narrow(code<X, UP>(normal<NORMAL>(wide(x[i]), c), c, r) * c.step, y[i]);
}

template <class X, class Y, bool NORMAL, bool UP>
double backward_run(const X *__restrict x, const Y *__restrict grad, X *__restrict d_x, int64_t size, Constants c,
                    Range r) {
    const bool negative = r.low < 0;
    const float least = negative ? -c.clip : 0.0f;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < size; i++) {
        const float v = normal<NORMAL>(wide(x[i]), c), g = wide(grad[i]);
        // The ends are inside, but a ReLU's zero is not.
        const bool inside = (v >= least) & ((v > 0) | negative) & (v <= c.clip);
        sum += (rounded<X>(code<X, UP>(v, c, r) * c.step) - (inside ? v : 0.0f)) * g;
        const float kept = inside ? g : 0.0f;
        narrow(NORMAL ? kept / c.deviation : kept, d_x[i]);
    }
    return sum;
}

double sum_run(const float *x, int64_t size) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < size; i++) sum += x[i];
    return sum;
}

double square_run(const float *x, int64_t size, double middle) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < size; i++) sum += (x[i] - middle) * (x[i] - middle);
    return sum;
}

}  // namespace

extern "C" {

int64_t chunk_size() { return CHUNK; }

// parts[chunk]: of the sum of x, or of (x - middle)^2 where there is a middle for each group.
void moments(const float *x, const double *middle, double *parts, int64_t groups, int64_t size, int threads) {
    in_chunks(groups, size, threads, [=](int64_t chunk, int64_t group, int64_t at, int64_t length) {
        parts[chunk] = middle ? square_run(x + at, length, middle[group]) : sum_run(x + at, length);
    });
}

#define KIND(NAME, X, Y, NORMAL)                                                                              \
    void forward_##NAME(const X *x, Y *y, const Constants *each, const Range *r, int64_t groups, int64_t size, \
                        int threads) {                                                                        \
        in_chunks(groups, size, threads, [=](int64_t, int64_t group, int64_t at, int64_t length) {            \
            const auto run = r->up ? forward_run<X, Y, NORMAL, true> : forward_run<X, Y, NORMAL, false>;      \
            run(x + at, y + at, length, each[group], *r);                                                     \
        });                                                                                                   \
    }                                                                                                         \
    void backward_##NAME(const X *x, const Y *grad, X *d_x, double *parts, const Constants *each,             \
                         const Range *r, int64_t groups, int64_t size, int threads) {                         \
        in_chunks(groups, size, threads, [=](int64_t chunk, int64_t group, int64_t at, int64_t length) {      \
            const auto run = r->up ? backward_run<X, Y, NORMAL, true> : backward_run<X, Y, NORMAL, false>;    \
            parts[chunk] = run(x + at, grad + at, d_x + at, length, each[group], *r);                         \
        });                                                                                                   \
    }

KIND(bf16_bf16, bf16, bf16, false)
KIND(fp32_fp32, float, float, false)
KIND(fp32_bf16, float, bf16, false)
KIND(normal_fp32_fp32, float, float, true)
KIND(normal_fp32_bf16, float, bf16, true)

}  // extern "C"

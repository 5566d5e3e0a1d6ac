/* The reference loop: plain C99, integers only, one function a kind of node, written to be read and not to be fast.
 *
 * What there is to compute stands in network.h; this file is the same for every network. With -DFIXED_POINT codes are
 * made by (acc*M + B) >> S wherever network.h has an exact M, B, S, else by counting thresholds: the codes are equal.
 */
#include "network.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t *arrays[ARRAY_COUNT];
static int64_t *results[STEP_COUNT];

/* Little-endian integers of 1, 2, 4 or 8 bytes, whatever the machine's own order. */
static int read_array(const char *folder, const struct array *array, int64_t *values)
{
    unsigned char bytes[8];
    char path[4096];
    FILE *file;

    if (snprintf(path, sizeof path, "%s/%s", folder, array->file) >= (int)sizeof path)
        return 0;
    file = fopen(path, "rb");
    if (!file)
        return 0;
    for (long i = 0; i < array->count; i++) {
        uint64_t bits = 0;
        if (fread(bytes, 1, (size_t)array->bytes, file) != (size_t)array->bytes) {
            fclose(file);
            return 0;
        }
        if (array->is_signed && bytes[array->bytes - 1] & 0x80)
            bits = ~(uint64_t)0;
        for (int b = array->bytes - 1; b >= 0; b--)
            bits = bits << 8 | bytes[b];
        memcpy(&values[i], &bits, sizeof bits); /* two's complement, which int64_t is */
    }
    fclose(file);
    return 1;
}

const char *network_load(const char *folder)
{
    for (int i = 1; i < ARRAY_COUNT; i++) { /* 0 stands for none */
        arrays[i] = malloc(sizeof **arrays * (size_t)(ARRAYS[i].count + 1));
        if (!arrays[i] || !read_array(folder, &ARRAYS[i], arrays[i]))
            return ARRAYS[i].file;
    }
    for (int i = 0; i < STEP_COUNT; i++) {
        results[i] = malloc(sizeof **results * (size_t)step_size(i));
        if (!results[i])
            return STEPS[i].name;
    }
    return NULL;
}

long step_size(int step)
{
    return (long)STEPS[step].channels * STEPS[step].height * STEPS[step].width;
}

const int64_t *network_result(int step)
{
    return results[step];
}

static int64_t floor_shift(int64_t value, int bits) /* C leaves >> of negative numbers to the compiler */
{
    return value >= 0 ? value >> bits : ~(~value >> bits);
}

static void input(const struct step *s, const uint8_t *pixels, int64_t *out)
{
    long area = (long)s->height * s->width;
    for (int c = 0; c < s->channels; c++)
        for (long i = 0; i < area; i++)
            out[c * area + i] = arrays[s->table][256 * c + pixels[c * area + i]];
}

static void conv(const struct step *s, const struct step *from, const int64_t *in, int64_t *out)
{
    int outs = s->channels / s->groups, ins = from->channels / s->groups;
    for (int o = 0; o < s->channels; o++)
        for (int i = 0; i < s->height; i++)
            for (int j = 0; j < s->width; j++) {
                int64_t acc = s->bias ? arrays[s->bias][o] : 0;
                for (int c = 0; c < ins; c++)
                    for (int ki = 0; ki < s->kernel[0]; ki++)
                        for (int kj = 0; kj < s->kernel[1]; kj++) {
                            long y = (long)i * s->stride[0] + (long)ki * s->dilation[0] - s->padding[0];
                            long x = (long)j * s->stride[1] + (long)kj * s->dilation[1] - s->padding[1];
                            if (y < 0 || y >= from->height || x < 0 || x >= from->width)
                                continue; /* padding is code 0 */
                            acc += in[((long)(o / outs * ins + c) * from->height + y) * from->width + x]
                                   * arrays[s->weight][((long)(o * (long)ins + c) * s->kernel[0] + ki) * s->kernel[1] + kj];
                        }
                out[((long)o * s->height + i) * s->width + j] = acc;
            }
}

static void linear(const struct step *s, const struct step *from, const int64_t *in, int64_t *out)
{
    for (int o = 0; o < s->channels; o++) {
        out[o] = arrays[s->bias][o];
        for (int i = 0; i < from->channels; i++)
            out[o] += in[i] * arrays[s->weight][(long)o * from->channels + i];
    }
}

static int64_t by_thresholds(const struct step *s, int channel, int64_t acc)
{
    const int64_t *thresholds = arrays[s->thresholds] + (long)channel * s->levels;
    int64_t value = arrays[s->sign][channel] * acc, code = s->low;
    for (int k = 0; k < s->levels; k++) /* hardware compares with all of them at once */
        code += value >= thresholds[k];
    return code;
}

static int64_t clamp(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

static int64_t by_fixed_point(const struct step *s, int channel, int64_t acc)
{
    int64_t line = acc * arrays[s->multiplier][channel] + arrays[s->fixed_bias][channel];
    int64_t whole = (int64_t)1 << arrays[s->shift][channel];
    int64_t code = floor_shift(line, (int)arrays[s->shift][channel]);
    if (s->even) { /* what the shift drops, twice, against the divisor */
        int64_t twice = 2 * (line - code * whole);
        code += twice > whole || (twice == whole && code & 1);
        return clamp(code, s->low + s->least, s->low + s->most);
    }
    return s->low + clamp(code, s->least, s->most);
}

static void requantize(const struct step *s, const int64_t *in, int64_t *out)
{
    long area = (long)s->height * s->width;
    int fixed = FIXED_POINT && s->multiplier;
    for (int c = 0; c < s->channels; c++)
        for (long i = 0; i < area; i++)
            out[c * area + i] = (fixed ? by_fixed_point : by_thresholds)(s, c, in[c * area + i]);
}

static void pool(const struct step *s, const struct step *from, const int64_t *in, int64_t *out)
{
    for (int c = 0; c < s->channels; c++)
        for (int i = 0; i < s->height; i++)
            for (int j = 0; j < s->width; j++) {
                int64_t result = s->kind == MAX_POOL ? INT64_MIN : 0;
                for (int ki = 0; ki < s->kernel[0]; ki++)
                    for (int kj = 0; kj < s->kernel[1]; kj++) {
                        long y = (long)i * s->stride[0] + (long)ki * s->dilation[0] - s->padding[0];
                        long x = (long)j * s->stride[1] + (long)kj * s->dilation[1] - s->padding[1];
                        int64_t code;
                        if (y < 0 || y >= from->height || x < 0 || x >= from->width)
                            continue; /* outside counts for nothing */
                        code = in[((long)c * from->height + y) * from->width + x];
                        if (s->kind == AVG_POOL)
                            result += code; /* the sum: the division is in the thresholds behind it */
                        else if (code > result)
                            result = code;
                    }
                out[((long)c * s->height + i) * s->width + j] = result;
            }
}

static void upsample(const struct step *s, const struct step *from, const int64_t *in, int64_t *out)
{
    for (int c = 0; c < s->channels; c++)
        for (int i = 0; i < s->height; i++)
            for (int j = 0; j < s->width; j++)
                out[((long)c * s->height + i) * s->width + j] =
                    in[((long)c * from->height + i / s->factor[0]) * from->width + j / s->factor[1]];
}

static int64_t argmax(const int64_t *in, int classes)
{
    int best = 0;
    for (int i = 1; i < classes; i++)
        if (in[i] > in[best]) /* the first of equals */
            best = i;
    return best;
}

void network_run(const uint8_t *pixels)
{
    for (int n = 0; n < STEP_COUNT; n++) {
        const struct step *s = &STEPS[n], *from = &STEPS[INPUTS[s->input]];
        const int64_t *in = results[INPUTS[s->input]];
        int64_t *out = results[n];
        switch (s->kind) {
        case INPUT: input(s, pixels, out); break;
        case CONV: conv(s, from, in, out); break;
        case LINEAR: linear(s, from, in, out); break;
        case REQUANTIZE: requantize(s, in, out); break;
        case MAX_POOL: case AVG_POOL: pool(s, from, in, out); break;
        case ADD:
            for (long i = 0; i < step_size(n); i++)
                out[i] = s->gains[0] * in[i] + s->gains[1] * results[INPUTS[s->input + 1]][i];
            break;
        case CONCAT:
            for (int k = 0; k < s->inputs; k++) {
                int one = INPUTS[s->input + k];
                memcpy(out, results[one], sizeof *out * (size_t)step_size(one));
                out += step_size(one);
            }
            break;
        case UPSAMPLE: upsample(s, from, in, out); break;
        case FLATTEN: memcpy(out, in, sizeof *out * (size_t)step_size(n)); break; /* the order is the same */
        case ARGMAX: *out = argmax(in, from->channels); break;
        }
    }
}

/* network FOLDER PIXELS [DUMP]: what the network makes of raw pictures.
 *
 * FOLDER holds the .bin files. PIXELS: bytes, picture after picture, channel outermost, then rows, then columns. A line a
 * picture and result: its name and integers. DUMP gets the result of every step, codes and accumulators, in the steps'
 * order, picture after picture: little-endian int64.
 */
#include "network.h"

#include <stdio.h>
#include <stdlib.h>

static int fail(const char *what, const char *name)
{
    fprintf(stderr, "%s: %s\n", name, what);
    return 1;
}

static int dump(FILE *file)
{
    for (int n = 0; n < STEP_COUNT; n++)
        for (long i = 0; i < step_size(n); i++) {
            uint64_t bits = (uint64_t)network_result(n)[i];
            for (int b = 0; b < 8; b++)
                if (putc((int)(bits >> (8 * b) & 0xff), file) == EOF)
                    return 0;
        }
    return 1;
}

int main(int argc, char **argv)
{
    static uint8_t pixels[PIXEL_COUNT];
    FILE *in, *out = NULL;
    const char *missing;
    size_t got;

    if (argc < 3 || argc > 4)
        return fail("expected FOLDER PIXELS [DUMP]", argv[0]);
    if ((missing = network_load(argv[1])) != NULL)
        return fail("cannot be read, or there is no memory for it", missing);
    if (!(in = fopen(argv[2], "rb")))
        return fail("cannot be read", argv[2]);
    if (argc > 3 && !(out = fopen(argv[3], "wb")))
        return fail("cannot be written", argv[3]);
    while ((got = fread(pixels, 1, sizeof pixels, in)) == sizeof pixels) {
        network_run(pixels);
        for (int k = 0; k < OUTPUT_COUNT; k++) {
            printf("%s", STEPS[OUTPUTS[k]].name);
            for (long i = 0; i < step_size(OUTPUTS[k]); i++)
                printf(" %lld", (long long)network_result(OUTPUTS[k])[i]);
            putchar('\n');
        }
        if (out && !dump(out))
            return fail("cannot be written", argv[3]);
    }
    fclose(in);
    if (out && fclose(out))
        return fail("cannot be written", argv[3]);
    return got ? fail("ends within a picture", argv[2]) : 0;
}

// SHA-256 with the instructions that x86 processors have for it, where this one has them.
#include "sha256.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>

namespace keepstep::internal {
namespace {

/// The state is held as the instructions want it: a, b, e, f in one register, c, d, g, h in one.
__attribute__((target("sha,sse4.1"))) void x86_blocks(Sha256State& state,
                                                      const std::uint8_t* blocks,
                                                      std::size_t count) {
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    auto* words = reinterpret_cast<__m128i*>(state.data());
    const auto* constants = reinterpret_cast<const __m128i*>(sha256_constants.data());
    const __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128(words), 0xB1);
    const __m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128(words + 1), 0x1B);
    __m128i abef = _mm_alignr_epi8(badc, efgh, 8);
    __m128i cdgh = _mm_blend_epi16(efgh, badc, 0xF0);
    for (; count != 0; --count, blocks += 64) {
        const __m128i abef_before = abef;
        const __m128i cdgh_before = cdgh;
        __m128i w[4];  // the last sixteen words of the message schedule
        for (int i = 0; i < 16; ++i) {
            __m128i& four = w[i % 4];
            if (i < 4) {
                const auto* bytes = reinterpret_cast<const __m128i*>(blocks) + i;
                four = _mm_shuffle_epi8(_mm_loadu_si128(bytes), big_endian);
            } else {
                const __m128i last = w[(i + 3) % 4];
                const __m128i seven_before = _mm_alignr_epi8(last, w[(i + 2) % 4], 4);
                four = _mm_sha256msg1_epu32(four, w[(i + 1) % 4]);
                four = _mm_sha256msg2_epu32(_mm_add_epi32(four, seven_before), last);
            }
            const __m128i sum = _mm_add_epi32(four, _mm_loadu_si128(constants + i));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0E));
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    const __m128i feba = _mm_shuffle_epi32(abef, 0x1B);
    const __m128i dchg = _mm_shuffle_epi32(cdgh, 0xB1);
    _mm_storeu_si128(words, _mm_blend_epi16(feba, dchg, 0xF0));
    _mm_storeu_si128(words + 1, _mm_alignr_epi8(dchg, feba, 8));
}

bool has_instructions() {
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    const bool sse41 = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_SSE4_1) != 0;
    return sse41 && __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & bit_SHA) != 0;
}

}  // namespace

Sha256Blocks fastest_sha256_blocks() {
    static const bool fast = has_instructions();
    return fast ? x86_blocks : sha256_blocks;
}

}  // namespace keepstep::internal

#else

namespace keepstep::internal {

Sha256Blocks fastest_sha256_blocks() { return sha256_blocks; }

}  // namespace keepstep::internal

#endif

// Fresh sound and each machine's ring of waveform in; the windows and their log-mel in dB, in the engine's inputs, out.
//
// Compiled on the device with these numbers of the FeatureSpec: WINDOW_SAMPLES, N_FFT (a power of two), HOP_SAMPLES,
// N_MELS, N_FRAMES, POWER_FLOOR. float32 throughout; where that is too coarse, two of them make a number. No header and
// no intrinsic beyond what the tests emulate on a CPU.

#define HALF_FFT (N_FFT / 2)
#define FFT_THREADS (N_FFT / 8)   // one butterfly of radix 4 each, in a complex FFT of half the length
#define FRAMES_PER_BLOCK 4        // written together, since frames of one mel band are neighbours in memory
#define SUM_THREADS 8
// A band's mean power over that of its frame, below which float32's rounding in the FFT reaches 1e-3 dB (found with
// tones, chirps, clipping and noise with a stop band: 2.6e-4 dB above it). Sound of machines seldom has such bands.
#define FAINT 3e-5f

// One machine's part in a batch. ring: which ring, -1 for a row that fills up the batch. write_at: the ring's oldest
// sample, where the next one goes. n_fresh: samples that this hop adds.
struct Row {
    int ring;
    int write_at;
    int n_fresh;
    int unused;
};

// Grid (ceil(WINDOW_SAMPLES / block), rows). Each thread makes one sample of the window, from the ring or from what is
// fresh, and puts fresh ones into the ring: over the oldest, which no thread reads.
extern "C" __global__ void advance_rings(const Row* rows, const float* fresh, int max_fresh, float* rings, float* wave,
                                         int* not_finite) {
    const int row = blockIdx.y;
    const int at = blockIdx.x * blockDim.x + threadIdx.x;
    const Row part = rows[row];
    if (part.ring < 0 || at >= WINDOW_SAMPLES) return;
    float* ring = rings + (long long)part.ring * WINDOW_SAMPLES;
    const int n_kept = WINDOW_SAMPLES - part.n_fresh;
    float sample;
    if (at < n_kept) {
        int from = part.write_at + part.n_fresh + at;
        if (from >= WINDOW_SAMPLES) from -= WINDOW_SAMPLES;
        sample = ring[from];
    } else {
        int to = part.write_at + at - n_kept;
        if (to >= WINDOW_SAMPLES) to -= WINDOW_SAMPLES;
        sample = fresh[(long long)row * max_fresh + at - n_kept];
        ring[to] = sample;
    }
    wave[(long long)row * WINDOW_SAMPLES + at] = sample;
    if (at == 0) not_finite[row] = 0;
}

// Complex numbers: float2, and Exact, each of whose parts is the sum of two floats. Sums of Exact lose nothing of the
// larger parts (Knuth's two-sum), products neither (by FMA); the smaller parts carry the rest, good for about 48 bits of
// the frame's loudest value. Source: Dekker, A floating-point technique for extending the available precision, 1971.
struct alignas(16) Exact {
    float2 high, low;
};

__device__ float2 plus(float2 a, float2 b) { return make_float2(a.x + b.x, a.y + b.y); }
__device__ float2 minus(float2 a, float2 b) { return make_float2(a.x - b.x, a.y - b.y); }
__device__ float2 times(float2 a, float2 b) { return make_float2(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x); }
__device__ float2 half_of(float2 a) { return make_float2(0.5f * a.x, 0.5f * a.y); }
__device__ float2 conjugate(float2 a) { return make_float2(a.x, -a.y); }
__device__ float2 over_i(float2 a) { return make_float2(a.y, -a.x); }
__device__ float2 rounded(float2 a) { return a; }
__device__ void set(float2& to, float2 value) { to = value; }

// What rounding takes from a + b.
__device__ float lost(float a, float b, float sum) {
    const float b_part = sum - a;
    return (a - (sum - b_part)) + (b - b_part);
}
__device__ Exact plus(const Exact& a, const Exact& b) {
    const float2 sum = plus(a.high, b.high), rest = plus(a.low, b.low);
    return {sum, make_float2(rest.x + lost(a.high.x, b.high.x, sum.x), rest.y + lost(a.high.y, b.high.y, sum.y))};
}
__device__ Exact negative(const Exact& a) {
    return {make_float2(-a.high.x, -a.high.y), make_float2(-a.low.x, -a.low.y)};
}
__device__ Exact minus(const Exact& a, const Exact& b) { return plus(a, negative(b)); }
// high_a * high_b as (rounded product, the rest); __fmul_rn, or the compiler would join the product to a later sum.
__device__ float2 product(float high_a, float low_a, float high_b, float low_b) {
    const float high = __fmul_rn(high_a, high_b);
    return make_float2(high, fmaf(low_a, high_b, fmaf(high_a, low_b, fmaf(high_a, high_b, -high))));
}
__device__ Exact times(const Exact& a, const Exact& b) {
    const float2 xx = product(a.high.x, a.low.x, b.high.x, b.low.x), yy = product(-a.high.y, -a.low.y, b.high.y, b.low.y);
    const float2 xy = product(a.high.x, a.low.x, b.high.y, b.low.y), yx = product(a.high.y, a.low.y, b.high.x, b.low.x);
    return plus(Exact{make_float2(xx.x, xy.x), make_float2(xx.y, xy.y)},
                Exact{make_float2(yy.x, yx.x), make_float2(yy.y, yx.y)});
}
__device__ Exact half_of(const Exact& a) { return {half_of(a.high), half_of(a.low)}; }
__device__ Exact conjugate(const Exact& a) { return {conjugate(a.high), conjugate(a.low)}; }
__device__ Exact over_i(const Exact& a) { return {over_i(a.high), over_i(a.low)}; }
__device__ float2 rounded(const Exact& a) { return plus(a.high, a.low); }
__device__ void set(Exact& to, float2 value) { to = {value, make_float2(0.0f, 0.0f)}; }

// Complex FFT in place, of HALF_FFT points in shared memory, in order (Stockham): passes of radix 4, and one of radix 2
// where the length is not a power of four. Each pass is read whole before any of it is written.
template <typename Complex>
__device__ void fft_in_place(Complex* z, const Complex* twiddle) {
    const int j = threadIdx.x;
    int done = 1;
    for (; done * 4 <= HALF_FFT; done *= 4) {
        const int k = j % done;
        const int step = k * (N_FFT / (4 * done));
        const Complex a = z[j];
        const Complex b = times(z[j + HALF_FFT / 4], twiddle[step]);
        const Complex c = times(z[j + HALF_FFT / 2], twiddle[2 * step]);
        const Complex d = times(z[j + 3 * (HALF_FFT / 4)], twiddle[3 * step]);
        __syncthreads();
        const Complex ac = plus(a, c), a_c = minus(a, c), bd = plus(b, d), b_d = over_i(minus(b, d));
        const int to = (j / done) * (4 * done) + k;
        z[to] = plus(ac, bd);
        z[to + done] = plus(a_c, b_d);
        z[to + 2 * done] = minus(ac, bd);
        z[to + 3 * done] = minus(a_c, b_d);
        __syncthreads();
    }
    if (done < HALF_FFT) {  // then done is HALF_FFT / 2, and every thread has two butterflies
        Complex a[2], b[2];
        for (int part = 0; part < 2; ++part) {
            const int k = j + part * FFT_THREADS;
            a[part] = z[k];
            b[part] = times(z[k + HALF_FFT / 2], twiddle[2 * k]);
        }
        __syncthreads();
        for (int part = 0; part < 2; ++part) {
            const int k = j + part * FFT_THREADS;
            z[k] = plus(a[part], b[part]);
            z[k + HALF_FFT / 2] = minus(a[part], b[part]);
        }
        __syncthreads();
    }
}

// Power (HALF_FFT + 1) of the frame that begins at `start`; what lies beyond the window is zero. Returns this thread's
// part of its sum. All threads have it after the next barrier.
template <typename Complex>
__device__ float frame_power(const float* wave, int start, const float* taper, const Complex* twiddle, Complex* z,
                             float* power) {
    for (int i = threadIdx.x; i < HALF_FFT; i += FFT_THREADS) {
        const int at = start + 2 * i;
        float2 pair = make_float2(0.0f, 0.0f);  // two real samples make one complex one
        if (at >= 0 && at < WINDOW_SAMPLES) pair.x = wave[at] * taper[2 * i];
        if (at + 1 >= 0 && at + 1 < WINDOW_SAMPLES) pair.y = wave[at + 1] * taper[2 * i + 1];
        set(z[i], pair);
    }
    __syncthreads();
    fft_in_place(z, twiddle);
    // Split into the spectra of even and odd samples, and join these to the real FFT, two mirrored bins at a time.
    float sum = 0.0f;
    for (int k = threadIdx.x; k <= HALF_FFT / 2; k += FFT_THREADS) {
        const Complex p = z[k], q = conjugate(z[(HALF_FFT - k) % HALF_FFT]);
        const Complex even = half_of(plus(p, q)), odd = times(twiddle[k], over_i(half_of(minus(p, q))));
        const float2 low = rounded(plus(even, odd)), high = rounded(minus(even, odd));
        power[k] = low.x * low.x + low.y * low.y;
        power[HALF_FFT - k] = high.x * high.x + high.y * high.y;
        sum += power[k] + power[HALF_FFT - k];
    }
    return sum;
}

// A band's power: its filter weighs bins from mel_bin onwards.
__device__ float band_power(const float* power, int mel, const int* mel_bin, const int* mel_begin,
                            const float* mel_weight, float* total_weight) {
    const float* bins = power + mel_bin[mel];
    const float* weights = mel_weight + mel_begin[mel];
    const int n_bins = mel_begin[mel + 1] - mel_begin[mel];
    float sum = 0.0f, total = 0.0f;
    for (int k = 0; k < n_bins; ++k) {
        sum += weights[k] * bins[k];
        total += weights[k];
    }
    *total_weight = total;
    return sum;
}

// Grid (ceil(N_FRAMES / FRAMES_PER_BLOCK), rows), FFT_THREADS threads.
// taper (N_FFT): the window function. twiddle (N_FFT): exp(-2 pi i n / N_FFT), rounded, and exact_twiddle with the rest.
// Filter m weighs bins mel_bin[m] onwards with mel_weight[mel_begin[m]..mel_begin[m + 1] - 1]. log_mel (rows, N_MELS,
// N_FRAMES). not_finite (rows): set to 1 where a value of the row is NaN or infinite.
extern "C" __global__ void __launch_bounds__(FFT_THREADS)
    log_mel_db(const Row* rows, const float* wave, const float* taper, const float2* twiddle,
               const Exact* exact_twiddle, const int* mel_bin, const int* mel_begin, const float* mel_weight,
               float* log_mel, int* not_finite) {
    __shared__ Exact spectrum[HALF_FFT];
    __shared__ float power[HALF_FFT + 1];
    __shared__ float tile[N_MELS * FRAMES_PER_BLOCK];
    __shared__ float energy[FFT_THREADS];
    __shared__ int is_faint[FRAMES_PER_BLOCK];
    const int row = blockIdx.y;
    const int first_frame = blockIdx.x * FRAMES_PER_BLOCK;
    if (rows[row].ring < 0) return;
    if (threadIdx.x < FRAMES_PER_BLOCK) is_faint[threadIdx.x] = 0;
    wave += (long long)row * WINDOW_SAMPLES;
    for (int n = 0; n < FRAMES_PER_BLOCK && first_frame + n < N_FRAMES; ++n) {
        const int start = (first_frame + n) * HOP_SAMPLES - HALF_FFT;
        energy[threadIdx.x] = frame_power(wave, start, taper, twiddle, (float2*)spectrum, power);
        __syncthreads();
        if (threadIdx.x < SUM_THREADS) {
            float sum = 0.0f;
            for (int i = threadIdx.x; i < FFT_THREADS; i += SUM_THREADS) sum += energy[i];
            energy[threadIdx.x] = sum;  // which no other thread reads before the barrier
        }
        __syncthreads();
        float mean_power = 0.0f;
        for (int i = 0; i < SUM_THREADS; ++i) mean_power += energy[i] / (HALF_FFT + 1);
        for (int mel = threadIdx.x; mel < N_MELS; mel += FFT_THREADS) {
            float weight;
            const float sum = band_power(power, mel, mel_bin, mel_begin, mel_weight, &weight);
            const float faint = FAINT * weight * mean_power;
            if (sum < faint && faint > POWER_FLOOR) atomicOr(&is_faint[n], 1);
            tile[mel * FRAMES_PER_BLOCK + n] = sum;
        }
        __syncthreads();
        if (is_faint[n]) {
            frame_power(wave, start, taper, exact_twiddle, spectrum, power);
            __syncthreads();
            for (int mel = threadIdx.x; mel < N_MELS; mel += FFT_THREADS) {
                float weight;
                tile[mel * FRAMES_PER_BLOCK + n] = band_power(power, mel, mel_bin, mel_begin, mel_weight, &weight);
            }
        }
        // No thread writes `power` or `energy` again before all have passed the barriers of the next frame's FFT.
    }
    __syncthreads();
    for (int i = threadIdx.x; i < N_MELS * FRAMES_PER_BLOCK; i += FFT_THREADS) {
        const int mel = i / FRAMES_PER_BLOCK, frame = first_frame + i % FRAMES_PER_BLOCK;
        if (frame >= N_FRAMES) continue;
        const float sum = tile[i];
        // Written so that NaN stays NaN.
        const float value = 10.0f * log10f(sum < POWER_FLOOR ? POWER_FLOOR : sum);
        if (!(fabsf(value) < 1e6f)) atomicOr(&not_finite[row], 1);
        log_mel[((long long)row * N_MELS + mel) * N_FRAMES + frame] = value;
    }
}

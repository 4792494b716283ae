// Fresh sound and each machine's ring of waveform in; the windows and their log-mel in dB, in the engine's inputs, out.
//
// Compiled on the device with these numbers of the FeatureSpec: WINDOW_SAMPLES, N_FFT (a power of two), HOP_SAMPLES,
// N_MELS, N_FRAMES, POWER_FLOOR. float32 throughout: quiet bins beside loud ones need it. No header and no intrinsic
// beyond what the tests emulate on a CPU.

#define HALF_FFT (N_FFT / 2)
#define FFT_THREADS (N_FFT / 8)   // one butterfly of radix 4 each, in a complex FFT of half the length
#define FRAMES_PER_BLOCK 4        // written together, since frames of one mel band are neighbours in memory

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

__device__ float2 times(float2 a, float2 b) { return make_float2(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x); }

// Complex FFT in place, of HALF_FFT points in shared memory, in order (Stockham): passes of radix 4, and one of radix 2
// where the length is not a power of four. Each pass is read whole before any of it is written.
__device__ void fft_in_place(float2* z, const float2* twiddle) {
    const int j = threadIdx.x;
    int done = 1;
    for (; done * 4 <= HALF_FFT; done *= 4) {
        const int k = j % done;
        const int step = k * (N_FFT / (4 * done));
        const float2 a = z[j];
        const float2 b = times(z[j + HALF_FFT / 4], twiddle[step]);
        const float2 c = times(z[j + HALF_FFT / 2], twiddle[2 * step]);
        const float2 d = times(z[j + 3 * (HALF_FFT / 4)], twiddle[3 * step]);
        __syncthreads();
        const float2 ac = make_float2(a.x + c.x, a.y + c.y), a_c = make_float2(a.x - c.x, a.y - c.y);
        const float2 bd = make_float2(b.x + d.x, b.y + d.y), b_d = make_float2(b.x - d.x, b.y - d.y);
        const int to = (j / done) * (4 * done) + k;
        z[to] = make_float2(ac.x + bd.x, ac.y + bd.y);
        z[to + done] = make_float2(a_c.x + b_d.y, a_c.y - b_d.x);
        z[to + 2 * done] = make_float2(ac.x - bd.x, ac.y - bd.y);
        z[to + 3 * done] = make_float2(a_c.x - b_d.y, a_c.y + b_d.x);
        __syncthreads();
    }
    if (done < HALF_FFT) {  // then done is HALF_FFT / 2, and every thread has two butterflies
        float2 a[2], b[2];
        for (int part = 0; part < 2; ++part) {
            const int k = j + part * FFT_THREADS;
            a[part] = z[k];
            b[part] = times(z[k + HALF_FFT / 2], twiddle[2 * k]);
        }
        __syncthreads();
        for (int part = 0; part < 2; ++part) {
            const int k = j + part * FFT_THREADS;
            z[k] = make_float2(a[part].x + b[part].x, a[part].y + b[part].y);
            z[k + HALF_FFT / 2] = make_float2(a[part].x - b[part].x, a[part].y - b[part].y);
        }
        __syncthreads();
    }
}

// Grid (ceil(N_FRAMES / FRAMES_PER_BLOCK), rows), FFT_THREADS threads.
// taper (N_FFT): the window function. twiddle (N_FFT): exp(-2 pi i n / N_FFT). Filter m weighs bins mel_bin[m] onwards
// with mel_weight[mel_begin[m]..mel_begin[m + 1] - 1]. log_mel (rows, N_MELS, N_FRAMES). not_finite (rows): set to 1
// where a value of the row is NaN or infinite.
extern "C" __global__ void __launch_bounds__(FFT_THREADS)
    log_mel_db(const Row* rows, const float* wave, const float* taper, const float2* twiddle, const int* mel_bin,
               const int* mel_begin, const float* mel_weight, float* log_mel, int* not_finite) {
    __shared__ float2 spectrum[HALF_FFT];
    __shared__ float power[HALF_FFT + 1];
    __shared__ float tile[N_MELS * FRAMES_PER_BLOCK];
    const int row = blockIdx.y;
    const int first_frame = blockIdx.x * FRAMES_PER_BLOCK;
    if (rows[row].ring < 0) return;
    wave += (long long)row * WINDOW_SAMPLES;
    for (int n = 0; n < FRAMES_PER_BLOCK && first_frame + n < N_FRAMES; ++n) {
        // Two real samples make one complex one; what lies beyond the window is zero.
        const int start = (first_frame + n) * HOP_SAMPLES - HALF_FFT;
        for (int i = threadIdx.x; i < HALF_FFT; i += FFT_THREADS) {
            const int at = start + 2 * i;
            float2 pair = make_float2(0.0f, 0.0f);
            if (at >= 0 && at < WINDOW_SAMPLES) pair.x = wave[at] * taper[2 * i];
            if (at + 1 >= 0 && at + 1 < WINDOW_SAMPLES) pair.y = wave[at + 1] * taper[2 * i + 1];
            spectrum[i] = pair;
        }
        __syncthreads();
        fft_in_place(spectrum, twiddle);
        // Split into the spectra of even and odd samples, and join these to the real FFT, two mirrored bins at a time.
        for (int k = threadIdx.x; k <= HALF_FFT / 2; k += FFT_THREADS) {
            const float2 p = spectrum[k], q = spectrum[(HALF_FFT - k) % HALF_FFT];
            const float2 even = make_float2(0.5f * (p.x + q.x), 0.5f * (p.y - q.y));
            const float2 odd = times(twiddle[k], make_float2(0.5f * (p.y + q.y), 0.5f * (q.x - p.x)));
            const float2 low = make_float2(even.x + odd.x, even.y + odd.y);
            const float2 high = make_float2(even.x - odd.x, even.y - odd.y);
            power[k] = low.x * low.x + low.y * low.y;
            power[HALF_FFT - k] = high.x * high.x + high.y * high.y;
        }
        __syncthreads();
        for (int mel = threadIdx.x; mel < N_MELS; mel += FFT_THREADS) {
            const float* bins = power + mel_bin[mel];
            const float* weights = mel_weight + mel_begin[mel];
            const int n_bins = mel_begin[mel + 1] - mel_begin[mel];
            float sum = 0.0f;
            for (int k = 0; k < n_bins; ++k) sum += weights[k] * bins[k];
            // Written so that NaN stays NaN.
            const float value = 10.0f * log10f(sum < POWER_FLOOR ? POWER_FLOOR : sum);
            if (!(fabsf(value) < 1e6f)) atomicOr(&not_finite[row], 1);
            tile[mel * FRAMES_PER_BLOCK + n] = value;
        }
        // No thread passes the barrier that follows the next frame's load before all have read `power`.
    }
    __syncthreads();
    for (int i = threadIdx.x; i < N_MELS * FRAMES_PER_BLOCK; i += FFT_THREADS) {
        const int mel = i / FRAMES_PER_BLOCK, frame = first_frame + i % FRAMES_PER_BLOCK;
        if (frame < N_FRAMES) log_mel[((long long)row * N_MELS + mel) * N_FRAMES + frame] = tile[i];
    }
}

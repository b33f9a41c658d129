/* emulator.cpp: the scheduler, runtime and products behind emulator.h. */
#include "tests/cuda/emulator.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>

#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace
{

enum state { READY, BLOCK_WAIT, WARP_WAIT, DONE };
constexpr size_t STACK = 256 * 1024;

struct fiber {
    ucontext_t context; /* entered once; later switches by longjmp, which makes no system call */
    jmp_buf place;
    bool entered;
    state what;
    unsigned mask; /* WARP_WAIT: of this warp's lanes */
    int kind, line;
};

struct {
    const char *kernel = "";
    const std::function<void()> *body;
    std::vector<fiber> fibers;
    std::vector<unsigned char> shared;
    std::vector<uint64_t> slots; /* 32 a warp */
    char *stacks = nullptr;
    size_t stacks_count = 0;
    ucontext_t outside;
    jmp_buf scheduler;
    int current = -1;
    uint64_t random = 0;
} now;

uint64_t next_random()
{
    uint64_t z = now.random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void fiber_main()
{
    (*now.body)();
    now.fibers[now.current].what = DONE;
    _longjmp(now.scheduler, 1);
}

__attribute__((noinline)) void yield(state what, unsigned mask, int kind, int line)
{
    fiber &self = now.fibers[now.current];
    self.what = what;
    self.mask = mask;
    self.kind = kind;
    self.line = line;
    if (_setjmp(self.place) == 0)
        _longjmp(now.scheduler, 1);
}

/* Runs a fiber until it waits or ends. */
__attribute__((noinline)) void resume(fiber &f)
{
    if (_setjmp(now.scheduler) != 0)
        return;
    if (f.entered)
        _longjmp(f.place, 1);
    f.entered = true;
    swapcontext(&now.outside, &f.context);
}

void set_thread(int index)
{
    now.current = index;
    threadIdx.x = (unsigned)index % blockDim.x;
    threadIdx.y = (unsigned)index / blockDim.x % blockDim.y;
    threadIdx.z = (unsigned)index / (blockDim.x * blockDim.y);
}

/* Frees the warp whose whole mask waits for the same exchange; true when one was freed. */
bool release_warps()
{
    bool any = false;
    int count = (int)now.fibers.size();
    for (int first = 0; first < count; first += 32) {
        int lanes = count - first < 32 ? count - first : 32;
        for (int lane = 0; lane < lanes; lane++) {
            fiber &leader = now.fibers[first + lane];
            if (leader.what != WARP_WAIT)
                continue;
            unsigned mask = lanes < 32 ? leader.mask & ((1u << lanes) - 1) : leader.mask;
            bool all = true;
            for (int other = 0; other < lanes; other++) {
                const fiber &peer = now.fibers[first + other];
                all = all && (!(mask >> other & 1) || (peer.what == WARP_WAIT && peer.mask == leader.mask &&
                                                       peer.kind == leader.kind && peer.line == leader.line));
            }
            if (!all)
                continue;
            for (int other = 0; other < lanes; other++)
                if (mask >> other & 1)
                    now.fibers[first + other].what = READY;
            any = true;
        }
    }
    return any;
}

bool release_block()
{
    int line = -1;
    for (const fiber &f : now.fibers) {
        if (f.what != BLOCK_WAIT)
            return false;
        if (line >= 0 && f.line != line)
            emulator_fail("threads of a block wait at barriers of different lines");
        line = f.line;
    }
    for (fiber &f : now.fibers)
        f.what = READY;
    return true;
}

void run_block()
{
    int count = (int)now.fibers.size(), done = 0;
    std::vector<int> ready;
    for (int i = 0; i < count; i++) {
        fiber &f = now.fibers[i];
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = now.stacks + (size_t)i * STACK;
        f.context.uc_stack.ss_size = STACK;
        f.context.uc_link = nullptr;
        f.what = READY;
        f.entered = false;
        makecontext(&f.context, fiber_main, 0);
    }
    while (done < count) {
        ready.clear();
        for (int i = 0; i < count; i++)
            if (now.fibers[i].what == READY)
                ready.push_back(i);
        if (ready.empty()) {
            if (release_warps() || release_block())
                continue;
            emulator_fail("threads wait for others that never come (a divergent barrier or shuffle)");
        }
        for (size_t i = ready.size(); i > 0; i--) {
            size_t pick = next_random() % i;
            int index = ready[pick];
            ready[pick] = ready[i - 1];
            set_thread(index);
            resume(now.fibers[index]);
            done += now.fibers[index].what == DONE;
        }
    }
    now.current = -1;
}

void reserve_stacks(size_t count)
{
    if (count <= now.stacks_count)
        return;
    if (now.stacks)
        munmap(now.stacks, now.stacks_count * STACK);
    void *block = mmap(nullptr, count * STACK, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (block == MAP_FAILED) {
        perror("emulator: stacks");
        abort();
    }
    now.stacks = (char *)block;
    now.stacks_count = count;
}

} // namespace

void emulator_fail(const char *what)
{
    fprintf(stderr, "emulator: kernel %s, block (%u, %u, %u): %s\n", now.kernel, blockIdx.x, blockIdx.y,
            blockIdx.z, what);
    static const char *const names[] = {"ready", "at a block barrier", "at a warp exchange", "done"};
    for (size_t i = 0; i < now.fibers.size() && i < 64; i++)
        fprintf(stderr, "  thread %zu: %s, line %d\n", i, names[now.fibers[i].what], now.fibers[i].line);
    exit(70);
}

void emulator_launch(const char *kernel, dim3 grid, dim3 block, size_t shared,
                     const std::function<void()> &body)
{
    size_t threads = (size_t)block.x * block.y * block.z;
    const char *seed = getenv("OFFRAMP_EMULATOR_SEED");
    now.kernel = kernel;
    if (threads == 0 || threads > 1024 || grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 ||
        grid.z > 65535 || shared > 227 * 1024)
        emulator_fail("a launch that no device accepts");
    now.body = &body;
    now.random = seed ? strtoull(seed, nullptr, 10) : 1;
    now.fibers.assign(threads, fiber{});
    now.slots.assign((threads + 31) / 32 * 32, 0);
    blockDim = block;
    gridDim = grid;
    reserve_stacks(threads);
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                blockIdx = uint3{x, y, z};
                /* exact size and fresh, so that AddressSanitizer sees an access past it */
                std::vector<unsigned char>(shared, 0xff).swap(now.shared);
                run_block();
            }
}

void *emulator_dynamic_shared(void)
{
    return now.shared.data();
}

void emulator_block_barrier(int line)
{
    yield(BLOCK_WAIT, 0, 0, line);
}

void emulator_warp_barrier(unsigned mask, int kind, int line)
{
    if (!(mask >> emulator_lane() & 1))
        emulator_fail("a thread takes part in a warp exchange whose mask leaves it out");
    yield(WARP_WAIT, mask, kind, line);
}

uint64_t *emulator_warp_slots(void)
{
    return &now.slots[(size_t)now.current / 32 * 32];
}

int emulator_lane(void)
{
    return now.current % 32;
}

/* ---- runtime ---- */

struct emulator_stream {
    int unused;
};
struct emulator_event {
    double seconds;
};
struct emulator_blas {
    int unused;
};

const char *cudaGetErrorString(cudaError_t error)
{
    return error == cudaErrorMemoryAllocation ? "out of memory"
           : error == cudaSuccess             ? "no error"
                                              : "invalid value";
}
cudaError_t cudaGetLastError(void)
{
    return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int)
{
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int)
{
    *properties = cudaDeviceProp{};
    snprintf(properties->name, sizeof properties->name, "emulated");
    properties->major = 9;
    properties->multiProcessorCount = 4;
    properties->totalGlobalMem = (size_t)8 << 30;
    properties->sharedMemPerBlockOptin = 227 * 1024;
    properties->l2CacheSize = 1 << 20;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    *free_bytes = *total = (size_t)8 << 30;
    return cudaSuccess;
}
cudaError_t emulator_malloc(void **pointer, size_t bytes)
{
    /* OFFRAMP_EMULATOR_MEMORY bounds a single allocation, so that running out can be tested */
    const char *limit = getenv("OFFRAMP_EMULATOR_MEMORY");
    *pointer = limit && bytes > strtoull(limit, nullptr, 10) ? nullptr : malloc(bytes ? bytes : 1);
    if (!*pointer)
        return cudaErrorMemoryAllocation;
    memset(*pointer, 0xff, bytes);
    return cudaSuccess;
}
cudaError_t cudaFree(void *pointer)
{
    free(pointer);
    return cudaSuccess;
}
cudaError_t cudaFreeAsync(void *pointer, cudaStream_t)
{
    return cudaFree(pointer);
}
cudaError_t cudaFreeHost(void *pointer)
{
    return cudaFree(pointer);
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind, cudaStream_t)
{
    memcpy(to, from, bytes);
    return cudaSuccess;
}
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind, cudaStream_t)
{
    for (size_t row = 0; row < height; row++)
        memcpy((char *)to + row * to_pitch, (const char *)from + row * from_pitch, width);
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t)
{
    memset(to, value, bytes);
    return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
    *stream = new emulator_stream();
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    delete stream;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t)
{
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned)
{
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    *event = new emulator_event();
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, 0);
}
cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    event->seconds = (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t)
{
    return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to)
{
    *milliseconds = (float)(1e3 * (to->seconds - from->seconds));
    return cudaSuccess;
}
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *pool, int)
{
    *pool = nullptr;
    return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void *)
{
    return cudaSuccess;
}

/* ---- cuBLAS ---- */

const char *cublasGetStatusString(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_SUCCESS ? "success" : "invalid value";
}
cublasStatus_t cublasCreate(cublasHandle_t *handle)
{
    *handle = new emulator_blas();
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy(cublasHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream(cublasHandle_t, cudaStream_t)
{
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t)
{
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetWorkspace(cublasHandle_t, void *, size_t)
{
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetVersion(cublasHandle_t, int *version)
{
    *version = 130000;
    return CUBLAS_STATUS_SUCCESS;
}

static double element(const void *data, cudaDataType_t type, long long index)
{
    return type == CUDA_R_16BF ? __bfloat162float(((const __nv_bfloat16 *)data)[index])
                               : ((const float *)data)[index];
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t, cublasOperation_t transpose_a,
                                          cublasOperation_t transpose_b, int m, int n, int k, const void *alpha,
                                          const void *a, cudaDataType_t a_type, int lda, long long a_step,
                                          const void *b, cudaDataType_t b_type, int ldb, long long b_step,
                                          const void *beta, void *c, cudaDataType_t c_type, int ldc,
                                          long long c_step, int batch, cublasComputeType_t, cublasGemmAlgo_t)
{
    if (lda < (transpose_a == CUBLAS_OP_N ? m : k) || ldb < (transpose_b == CUBLAS_OP_N ? k : n) || ldc < m ||
        m < 0 || n < 0 || k < 0 || a_type != b_type)
        return CUBLAS_STATUS_INVALID_VALUE;
    for (int item = 0; item < batch; item++)
        for (int column = 0; column < n; column++)
            for (int row = 0; row < m; row++) {
                double sum = 0;
                for (int i = 0; i < k; i++) {
                    long long at =
                        transpose_a == CUBLAS_OP_N ? row + (long long)i * lda : i + (long long)row * lda;
                    long long bt =
                        transpose_b == CUBLAS_OP_N ? i + (long long)column * ldb : column + (long long)i * ldb;
                    sum += element(a, a_type, item * a_step + at) * element(b, b_type, item * b_step + bt);
                }
                long long place = item * c_step + row + (long long)column * ldc;
                double scale = *(const float *)beta;
                double value =
                    *(const float *)alpha * sum + (scale != 0 ? scale * element(c, c_type, place) : 0);
                if (c_type == CUDA_R_16BF)
                    ((__nv_bfloat16 *)c)[place] = __float2bfloat16_rn((float)value);
                else
                    ((float *)c)[place] = (float)value;
            }
    return CUBLAS_STATUS_SUCCESS;
}

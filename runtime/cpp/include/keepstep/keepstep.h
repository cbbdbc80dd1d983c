/* keepstep for C, and for every language that calls C: the same as bundle.h and player.h.
 *
 *     keepstep_bundle* bundle;
 *     keepstep_error* error = keepstep_bundle_open("engines/emoji", NULL, &bundle);
 *     if (error != NULL) { puts(keepstep_error_message(error)); keepstep_error_free(error); }
 *
 * Functions that can fail give an error, or NULL when all went well; what they make is then in
 * their last argument, which is NULL otherwise. A bundle or player that is NULL is an error, or has
 * nothing; one that was freed must not be used, nor memory of it. Strings are UTF-8, and those that
 * are given back live as long as what they were asked of. No function throws or ends the program.
 */
#ifndef KEEPSTEP_KEEPSTEP_H
#define KEEPSTEP_KEEPSTEP_H

#include <stddef.h>
#include <stdint.h>

#include "keepstep/export.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct keepstep_error keepstep_error;
typedef struct keepstep_bundle keepstep_bundle;
typedef struct keepstep_player keepstep_player;

/* Who can mend an error. */
typedef enum keepstep_code {
    KEEPSTEP_BUNDLE_ERROR = 1,   /* a bundle or plan breaks a rule of docs/plan-format.md */
    KEEPSTEP_INPUT_ERROR = 2,    /* what was given does not fit its plan */
    KEEPSTEP_BACKEND_ERROR = 3,  /* a backend is not in this build, not in this bundle, or failed */
    KEEPSTEP_INTERNAL_ERROR = 4, /* a fault of keepstep itself */
    KEEPSTEP_CANCELLED = 5,      /* the caller's own progress callback ended the run */
    KEEPSTEP_RESULT_ERROR = 6,   /* a run gave NaN or infinity */
} keepstep_code;

typedef enum keepstep_dtype {
    KEEPSTEP_FLOAT32 = 0,
    KEEPSTEP_FLOAT16 = 1,
    KEEPSTEP_BFLOAT16 = 2,
    KEEPSTEP_INT64 = 3,
    KEEPSTEP_INT32 = 4,
    KEEPSTEP_UINT8 = 5,
    KEEPSTEP_BOOL = 6, /* one byte, 0 or 1 */
} keepstep_dtype;

typedef enum keepstep_device {
    KEEPSTEP_HOST = 0,
    KEEPSTEP_CUDA = 1, /* the GPU that the player plays on */
} keepstep_device;

#define KEEPSTEP_MAX_AXES 8

/* Named memory, row-major without padding. `data` is NULL where a type alone is told. */
typedef struct keepstep_tensor {
    const char* name;
    int32_t dtype; /* a keepstep_dtype */
    uint32_t axes;
    int64_t shape[KEEPSTEP_MAX_AXES];
    void* data;
    size_t bytes; /* how many lie at `data` */
    int32_t device; /* a keepstep_device: where `data` points to */
} keepstep_tensor;

/* How a bundle is opened; fill with zeros and set what differs. */
typedef struct keepstep_bundle_options {
    int skip_hashes; /* compare sizes alone, for files that are known to be whole */
} keepstep_bundle_options;

/* How a plan is loaded; fill with zeros and set what differs. */
typedef struct keepstep_player_options {
    int threads;       /* CPU threads of a launch; 0: as many as the backend likes */
    void* cuda_stream; /* the cudaStream_t that a GPU's player launches on; NULL: one of its own */
} keepstep_player_options;

/* One launch of a plan, for people. */
typedef struct keepstep_call {
    const char* stage;
    int64_t step;     /* of the sampler; -1 before the first and after the last */
    const char* label; /* of that step, such as "full"; empty where there is none */
} keepstep_call;

/* Told of every call of a run that is done, and of how many there are; 0 ends the run. */
typedef int (*keepstep_progress)(size_t done, size_t all, void* user);

/* What a run is given, gives back, or may be given in place of the calls that compute it. */
typedef enum keepstep_role {
    KEEPSTEP_INPUT = 0,
    KEEPSTEP_OUTPUT = 1,
    KEEPSTEP_FEED = 2,
} keepstep_role;

KEEPSTEP_API keepstep_code keepstep_error_code(const keepstep_error* error);
/* The rule of docs/plan-format.md that is broken; 0 where none is. */
KEEPSTEP_API int keepstep_error_rule(const keepstep_error* error);
/* One printable line. */
KEEPSTEP_API const char* keepstep_error_message(const keepstep_error* error);
KEEPSTEP_API void keepstep_error_free(keepstep_error* error);

/* Reads bundle.json and checks every file that it lists; `options` may be NULL. */
KEEPSTEP_API keepstep_error* keepstep_bundle_open(const char* folder,
                                                  const keepstep_bundle_options* options,
                                                  keepstep_bundle** bundle);
KEEPSTEP_API size_t keepstep_bundle_plan_count(const keepstep_bundle* bundle);
/* The name of a plan; NULL for an index beyond the last. */
KEEPSTEP_API const char* keepstep_bundle_plan(const keepstep_bundle* bundle, size_t index);
/* Players live on without their bundle. */
KEEPSTEP_API void keepstep_bundle_free(keepstep_bundle* bundle);

/* The backends that this build has; NULL for an index beyond the last. */
KEEPSTEP_API const char* keepstep_backend(size_t index);

/* Reads a plan, checks every rule and loads it for playing; `options` may be NULL. */
KEEPSTEP_API keepstep_error* keepstep_player_open(const keepstep_bundle* bundle, const char* plan,
                                                  const char* backend,
                                                  const keepstep_player_options* options,
                                                  keepstep_player** player);
KEEPSTEP_API size_t keepstep_player_call_count(const keepstep_player* player);
/* A call of the plan; an index beyond the last is an error. */
KEEPSTEP_API keepstep_error* keepstep_player_call(const keepstep_player* player, size_t index,
                                                  keepstep_call* call);
KEEPSTEP_API size_t keepstep_player_count(const keepstep_player* player, keepstep_role role);
/* The type of an input, output or feed and, in `data`, the player's own memory of it: what is
 * written there before a run and given to it is not copied. An output lies there until the next
 * run, or until memory of an input is written. An index beyond the last is an error. */
KEEPSTEP_API keepstep_error* keepstep_player_tensor(keepstep_player* player, keepstep_role role,
                                                    size_t index, keepstep_tensor* tensor);
/* 1 where the plan says what the input at `index` holds when it is left out of a run; 0 otherwise,
 * and for an index beyond the last. */
KEEPSTEP_API int keepstep_player_has_default(const keepstep_player* player, size_t index);
/* Plays the plan once: takes inputs and feeds, launches its calls, copies outputs out. Nothing but
 * engines allocates then, where nothing fails. One thread at a time may use a player. */
KEEPSTEP_API keepstep_error* keepstep_player_run(keepstep_player* player,
                                                 const keepstep_tensor* inputs, size_t input_count,
                                                 const keepstep_tensor* outputs,
                                                 size_t output_count);
/* Has `progress` told of every call of every `keepstep_player_run` from now on, which are then
 * launched and waited for one by one; NULL: no more. */
KEEPSTEP_API void keepstep_player_watch(keepstep_player* player, keepstep_progress progress,
                                        void* user);
/* Plays the plan, gives its outputs, and measures: `seconds` of the whole run and, by its index,
 * of every call; 0 for one that was left out. `call_seconds` has room for all calls. Inputs are
 * not to lie in the player's own memory: it may play several times. */
KEEPSTEP_API keepstep_error* keepstep_player_profile(
    keepstep_player* player, const keepstep_tensor* inputs, size_t input_count,
    const keepstep_tensor* outputs, size_t output_count, double* seconds, double* call_seconds);
/* What a person should know of how the runs so far were played, as one line: why a GPU's loop is
 * not one CUDA graph. Empty where all is as it should be; lives until the next run. */
KEEPSTEP_API const char* keepstep_player_note(const keepstep_player* player);
KEEPSTEP_API void keepstep_player_free(keepstep_player* player);

#ifdef __cplusplus
}
#endif

#endif

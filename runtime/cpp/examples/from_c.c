/* From C, and so from every language that calls C: from_c BUNDLE BACKEND */
#include <keepstep/keepstep.h>
#include <stdio.h>
#include <string.h>

static int failed(keepstep_error* error) {
    if (error == NULL) return 0;
    fprintf(stderr, "%s\n", keepstep_error_message(error));
    keepstep_error_free(error);
    return 1;
}

static int tell(size_t done, size_t all, void* user) {
    printf("%s: call %zu of %zu\n", (const char*)user, done, all);
    return 1; /* 0 would end the run */
}

int main(int count, char** arguments) {
    keepstep_bundle* bundle;
    keepstep_player* player;
    keepstep_tensor inputs[16], output;
    if (count < 3 || failed(keepstep_bundle_open(arguments[1], NULL, &bundle))) return 1;
    const char* plan = keepstep_bundle_plan(bundle, 0);
    if (failed(keepstep_player_open(bundle, plan, arguments[2], NULL, &player))) return 1;

    const size_t wanted = keepstep_player_count(player, KEEPSTEP_INPUT);
    if (wanted > 16) return 1;
    for (size_t i = 0; i < wanted; ++i) {
        if (failed(keepstep_player_tensor(player, KEEPSTEP_INPUT, i, &inputs[i]))) return 1;
        if (inputs[i].device != KEEPSTEP_HOST) return 1; /* of a GPU: cudaMemset goes here */
        memset(inputs[i].data, 0, inputs[i].bytes);      /* the player's own: not copied again */
    }
    keepstep_player_watch(player, tell, (void*)plan);
    if (failed(keepstep_player_run(player, inputs, wanted, NULL, 0))) return 1;

    for (size_t i = 0; i < keepstep_player_count(player, KEEPSTEP_OUTPUT); ++i) {
        if (failed(keepstep_player_tensor(player, KEEPSTEP_OUTPUT, i, &output))) return 1;
        printf("%s: %zu bytes\n", output.name, output.bytes); /* they lie at output.data */
    }
    keepstep_player_free(player);
    keepstep_bundle_free(bundle); /* may go before: a player keeps what it needs */
    return 0;
}

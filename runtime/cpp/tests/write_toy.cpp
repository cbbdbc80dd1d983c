// Writes the toy bundle into a folder, for tests that are other programs.
#include "toy_bundle.h"

int main(int count, char** arguments) {
    if (count != 2) return 2;
    keepstep::tests::write_bundle(arguments[1]);
    return 0;
}

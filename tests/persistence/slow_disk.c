/* A disk that takes its time: fsync and fdatasync wait for as many milliseconds as the file `slow-sync` in the working folder
 * says. Put before the C library by LD_PRELOAD. */
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

static void wait_for_disk(void) {
    unsigned milliseconds = 0;
    FILE *file = fopen("slow-sync", "r");
    if (file == NULL) return;
    if (fscanf(file, "%u", &milliseconds) == 1) usleep(milliseconds * 1000);
    fclose(file);
}

int fdatasync(int file) {
    wait_for_disk();
    return (int)syscall(SYS_fdatasync, file);
}

int fsync(int file) {
    wait_for_disk();
    return (int)syscall(SYS_fsync, file);
}

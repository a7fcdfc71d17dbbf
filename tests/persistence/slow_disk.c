/* A disk that takes its time: fsync and fdatasync wait for as many milliseconds as the file `slow-sync` in the working folder
 * says. While that file says `hold` each of them, counted in the file `syncs-begun`, waits until `syncs-released` says as much.
 * Put before the C library by LD_PRELOAD. */
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static unsigned begun;

static unsigned number_in(const char *path) {
    unsigned number = 0;
    FILE *file = fopen(path, "r");
    if (file == NULL) return 0;
    if (fscanf(file, "%u", &number) != 1) number = 0;
    fclose(file);
    return number;
}

static int is_held(void) {
    char word[8] = "";
    FILE *file = fopen("slow-sync", "r");
    if (file == NULL) return 0;
    if (fscanf(file, "%7s", word) != 1) word[0] = 0;
    fclose(file);
    return strcmp(word, "hold") == 0;
}

static void wait_for_disk(void) {
    if (!is_held()) {
        usleep(number_in("slow-sync") * 1000);
        return;
    }
    unsigned mine = __atomic_add_fetch(&begun, 1, __ATOMIC_SEQ_CST);
    FILE *file = fopen("syncs-begun", "a");
    if (file != NULL) {
        fputc('.', file);
        fclose(file);
    }
    while (is_held() && number_in("syncs-released") < mine) usleep(500);
}

int fdatasync(int file) {
    wait_for_disk();
    return (int)syscall(SYS_fdatasync, file);
}

int fsync(int file) {
    wait_for_disk();
    return (int)syscall(SYS_fsync, file);
}

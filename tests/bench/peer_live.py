"""One rank of the usual multi-teacher loop: in every step all teachers label the batch, the student learns from their mean.

    mpirun -n N python peer_live.py FOLDER

Rank 0 prints one JSON object: seconds of all epochs, the version."""
import json
import os
import sys
import time

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F

from cases import BATCH, EPOCHS, LEARNING_RATE, MOMENTUM, ROWS, STUDENT, TEACHERS
from peer import distributed, loss_of, make_model


def main():
    folder = sys.argv[1]
    rank, size = int(os.environ["OMPI_COMM_WORLD_RANK"]), int(os.environ["OMPI_COMM_WORLD_SIZE"])
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    x = torch.from_numpy(np.load(f"{folder}/x.npy").astype(np.float32) / 255)
    y = torch.from_numpy(np.load(f"{folder}/y.npy").astype(np.int64))
    teachers = [(make_model(t, f"{folder}/t{i}.npz").eval(), "layers" in t) for i, t in enumerate(TEACHERS)]
    student = distributed(make_model(STUDENT, f"{folder}/student.npz"))
    optimizer = torch.optim.SGD(student.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
    share = BATCH // size
    dist.barrier()
    started = time.perf_counter()
    for epoch in range(EPOCHS):
        order = torch.from_numpy(np.random.default_rng(epoch).permutation(ROWS))
        for at in range(rank * share, ROWS, BATCH):
            ids = order[at:at + share]
            images = x.index_select(0, ids)
            with torch.inference_mode():
                # The mean of the teachers' softened outputs, as logits at that temperature.
                outputs = torch.stack([t(images.flatten(1) if flat else images) for t, flat in teachers])
                soft = F.softmax(outputs / 4, 2).mean(0).log() * 4
            loss = loss_of(student(images.flatten(1)), y.index_select(0, ids), soft.clone())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
    dist.barrier()
    seconds = time.perf_counter() - started
    if rank == 0:
        print(json.dumps({"version": torch.__version__, "seconds": seconds}), flush=True)
    time.sleep(0.5)
    os._exit(0)


if __name__ == "__main__":
    main()

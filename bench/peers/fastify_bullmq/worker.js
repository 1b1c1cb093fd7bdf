// The workers: validate with Ajv, add a job an action in one bulk call, one INCR an action.
import cluster from "node:cluster";
import { Queue, Worker } from "bullmq";
import { JOB_OPTIONS, QUEUE, connect } from "./common.js";
import { read } from "./schema.js";

if (cluster.isPrimary) {
  for (let i = 0; i < 2; i++) cluster.fork();
} else {
  const redis = connect();
  const queue = new Queue(QUEUE, { connection: connect(), defaultJobOptions: JOB_OPTIONS });

  async function process_(body) {
    const event = read(body);
    await queue.addBulk(["a", "b", "c"].map((action) => ({ name: "act", data: { action, event } })));
  }

  async function act({ action, event }) {
    if (event.id.startsWith("evcus_stamp")) {
      const now = (performance.timeOrigin + performance.now()) / 1000;
      await redis.rpush("bench:stamps", `${event.id} ${action} ${now.toFixed(6)}`);
    } else {
      await redis.incr(`bench:${action}`);
    }
  }

  new Worker(QUEUE, (job) => (job.name === "act" ? act(job.data) : process_(job.data)), {
    connection: connect(),
    concurrency: 50,
  });
}

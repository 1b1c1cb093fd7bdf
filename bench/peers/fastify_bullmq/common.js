// What web.js and worker.js share. Tuned after https://docs.bullmq.io: finished jobs removed, jobs added in bulk.
import { Redis } from "ioredis";

export const QUEUE = "webhooks";
export const JOB_OPTIONS = { removeOnComplete: true, removeOnFail: 1000 };

export function connect() {
  return new Redis(process.env.BENCH_REDIS_URL, { maxRetriesPerRequest: null });
}

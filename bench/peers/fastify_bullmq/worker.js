// The workers: validate with Ajv, add a job an action in one bulk call, one INCR an action.
import cluster from "node:cluster";
import Ajv from "ajv";
import { Queue, Worker } from "bullmq";
import { JOB_OPTIONS, QUEUE, connect } from "./common.js";

const text = { type: "string" };
const textOrNull = { type: ["string", "null"] };
const object = { type: ["object", "null"] };
const named = { id: text, name: textOrNull, metadata: object };

const envelope = {
  type: "object",
  required: ["data", "event"],
  properties: {
    id: text,
    event: {
      type: "object",
      required: ["id", "type"],
      properties: { id: text, type: text, created_at: text },
    },
    data: {
      type: "object",
      properties: {
        created_at: text,
        customer: {
          ...object,
          required: ["id"],
          properties: { ...named, email: textOrNull, source_id: textOrNull },
        },
        campaign: { ...object, required: ["id"], properties: named },
        loyalty_tier: {
          ...object,
          required: ["id"],
          properties: {
            ...named,
            campaign_id: text,
            created_at: text,
            points: { ...object, properties: { to: { type: "integer" } } },
          },
        },
      },
    },
  },
};

if (cluster.isPrimary) {
  for (let i = 0; i < 2; i++) cluster.fork();
} else {
  const validate = new Ajv({ allowUnionTypes: true }).compile(envelope);
  const redis = connect();
  const queue = new Queue(QUEUE, { connection: connect(), defaultJobOptions: JOB_OPTIONS });

  async function process_(body) {
    const found = JSON.parse(body);
    if (!validate(found)) throw new Error("not a webhook");
    const { customer, campaign, loyalty_tier: tier } = found.data;
    const event = {
      id: found.event.id,
      type: found.event.type,
      customer: customer && { id: customer.id, name: customer.name, email: customer.email, source_id: customer.source_id },
      campaign: campaign && campaign.name,
      tier: tier && { id: tier.id, name: tier.name },
    };
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

// The webhook as a user of Ajv would declare it: as many fields as ours, nested as usual.
import Ajv from "ajv";

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

const validate = new Ajv({ allowUnionTypes: true }).compile(envelope);

// Validates a webhook; returns what its actions need of it.
export function read(body) {
  const found = JSON.parse(body);
  if (!validate(found)) throw new Error("not a webhook");
  const { customer, campaign, loyalty_tier: tier } = found.data;
  return {
    id: found.event.id,
    type: found.event.type,
    customer: customer && { id: customer.id, name: customer.name, email: customer.email, source_id: customer.source_id },
    campaign: campaign && campaign.name,
    tier: tier && { id: tier.id, name: tier.name },
  };
}

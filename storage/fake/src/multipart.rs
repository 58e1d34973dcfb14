//! Multipart uploads: the protocol's inputs and outputs around the state, and what goes wrong with Complete alone.

use std::sync::Arc;

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput, ETag,
    ListPartsInput, ListPartsOutput, Part as ListedPart, UploadPartInput, UploadPartOutput,
};
use s3s::{S3Result, s3_error};

use crate::faults::Fault;
use crate::objects::{base64, from_base64, full_object, signed, time, verified};
use crate::service::{Shared, gather};
use crate::state::{About, Part, etag_of};

impl Shared {
    pub(crate) fn create_multipart(
        &self,
        input: CreateMultipartUploadInput,
    ) -> S3Result<CreateMultipartUploadOutput> {
        let about = About {
            metadata: input.metadata.unwrap_or_default(),
            content_type: input.content_type,
        };
        let id = self
            .state()
            .begin_upload(&input.bucket, &input.key, about)?;
        Ok(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            checksum_algorithm: input.checksum_algorithm,
            checksum_type: input.checksum_type,
            ..CreateMultipartUploadOutput::default()
        })
    }

    pub(crate) async fn upload_part(&self, input: UploadPartInput) -> S3Result<UploadPartOutput> {
        if !(1..=10_000).contains(&input.part_number) {
            return Err(s3_error!(InvalidArgument, "part number"));
        }
        let bytes = gather(input.body).await?;
        let crc = verified(&bytes, input.checksum_crc64nvme.as_deref())?;
        let etag = etag_of(crc, bytes.len() as u64);
        let part = Part {
            number: input.part_number,
            etag: etag.clone(),
            bytes,
            crc,
            modified: self.clock.second(),
        };
        self.state()
            .put_part((&input.bucket, &input.key, &input.upload_id), part)?;
        Ok(UploadPartOutput {
            e_tag: Some(ETag::Strong(etag)),
            checksum_crc64nvme: Some(base64(crc)),
            ..UploadPartOutput::default()
        })
    }

    pub(crate) fn list_parts(&self, input: &ListPartsInput) -> S3Result<ListPartsOutput> {
        let name = (
            input.bucket.as_str(),
            input.key.as_str(),
            input.upload_id.as_str(),
        );
        let after = input.part_number_marker.unwrap_or(0);
        let mut parts = self.state().parts(name)?;
        parts.retain(|part| part.number > after);
        // A page never ends between the entries of one part, which no marker could tell apart.
        let mut end = self.behaviour.parts_page.min(parts.len());
        while 0 < end && end < parts.len() && parts[end].number == parts[end - 1].number {
            end += 1;
        }
        let more = end < parts.len();
        let page = &parts[..end];
        let listed = page.iter().map(|part| ListedPart {
            part_number: Some(part.number),
            size: Some(signed(part.bytes.len() as u64)),
            e_tag: Some(ETag::Strong(part.etag.clone())),
            last_modified: Some(time(part.modified)),
            checksum_crc64nvme: self.behaviour.list_part_checksums.then(|| base64(part.crc)),
            ..ListedPart::default()
        });
        Ok(ListPartsOutput {
            bucket: Some(input.bucket.clone()),
            key: Some(input.key.clone()),
            upload_id: Some(input.upload_id.clone()),
            is_truncated: Some(more),
            next_part_number_marker: page.last().filter(|_| more).map(|part| part.number),
            parts: Some(listed.collect()),
            ..ListPartsOutput::default()
        })
    }

    pub(crate) async fn complete(
        shared: &Arc<Self>,
        input: CompleteMultipartUploadInput,
        fault: Option<Fault>,
    ) -> S3Result<CompleteMultipartUploadOutput> {
        let inside = |error| {
            Ok(CompleteMultipartUploadOutput {
                future: Some(Box::pin(async move { Err(error) })),
                ..CompleteMultipartUploadOutput::default()
            })
        };
        match fault {
            Some(Fault::ErrorInside200) => inside(s3_error!(InternalError)),
            Some(Fault::DoneErrorInside200) => {
                shared.completed(&input)?;
                inside(s3_error!(InternalError))
            }
            Some(Fault::Slow(time)) => {
                let shared = Arc::clone(shared);
                // Goes on when the caller has gone.
                let slow = tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    shared.completed(&input)
                });
                slow.await.map_err(|_| s3_error!(InternalError))?
            }
            _ => shared.completed(&input),
        }
    }

    fn completed(
        &self,
        input: &CompleteMultipartUploadInput,
    ) -> S3Result<CompleteMultipartUploadOutput> {
        let parts = input.multipart_upload.as_ref();
        let parts = parts.and_then(|list| list.parts.as_ref());
        let named = parts.into_iter().flatten().map(|part| {
            if self.wants_part_checksums() && part.checksum_crc64nvme.is_none() {
                return Err(s3_error!(InvalidPart));
            }
            let etag = part.e_tag.as_ref().map(|etag| etag.value().to_owned());
            part.part_number.zip(etag).ok_or(s3_error!(MalformedXML))
        });
        let named = named.collect::<S3Result<Vec<_>>>()?;
        let crc = input.checksum_crc64nvme.as_deref();
        let crc = crc.map(from_base64).transpose()?;
        let name = (
            input.bucket.as_str(),
            input.key.as_str(),
            input.upload_id.as_str(),
        );
        let now = self.clock.second();
        let (etag, crc) = self.state().complete(name, &named, crc, now)?;
        Ok(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket.clone()),
            key: Some(input.key.clone()),
            e_tag: Some(ETag::Strong(etag)),
            checksum_crc64nvme: Some(base64(crc)),
            checksum_type: Some(full_object()),
            ..CompleteMultipartUploadOutput::default()
        })
    }

    pub(crate) fn abort(
        &self,
        input: &AbortMultipartUploadInput,
        survives: bool,
    ) -> S3Result<AbortMultipartUploadOutput> {
        let name = (
            input.bucket.as_str(),
            input.key.as_str(),
            input.upload_id.as_str(),
        );
        self.state().abort(name, survives)?;
        Ok(AbortMultipartUploadOutput::default())
    }
}

"""What the documents say, in English and in Thai. One class: no text can be missing."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from jobledger_web.documents.words import Language


@dataclass(frozen=True, slots=True)
class Texts:
    """The fixed texts of a document in one language; braces take one value each."""

    invoice: str
    statement: str
    number: str
    issue_date: str
    due_date: str
    period: str
    account: str
    tier: str
    currency: str
    bill_to: str
    tax_id: str
    branch: str
    phone: str
    email: str
    website: str
    contact: str
    amount_due: str
    nothing_due: str
    due_by: str
    line: str
    description: str
    quantity: str
    list_price: str
    price: str
    discount: str
    amount: str
    this_period: str
    prior_period: str
    prior_mark: str
    list_total: str
    discount_total: str
    subtotal: str
    tax: str
    total: str
    in_words: str
    payment: str
    bank: str
    bank_branch: str
    bank_account_name: str
    bank_account_number: str
    payment_note: str
    notes: str
    rate_cards: str
    rate_card: str
    prices_in: str
    annex: str
    annex_lead: str
    annex_times: str
    cluster: str
    job: str
    user: str
    project: str
    ended: str
    core_hours: str
    gpu_hours: str
    cost: str
    others: str
    page: str
    page_of: str


ENGLISH: Final = Texts(
    invoice="Invoice",
    statement="Statement",
    number="Number",
    issue_date="Issue date",
    due_date="Due date",
    period="Billing period",
    account="Billing account",
    tier="Rate tier",
    currency="Currency",
    bill_to="Bill to",
    tax_id="Tax ID",
    branch="Branch",
    phone="Tel.",
    email="E-mail",
    website="Web",
    contact="Attention",
    amount_due="Amount due",
    nothing_due="Nothing to pay",
    due_by="Payable by {}",
    line="No.",
    description="Description",
    quantity="Quantity",
    list_price="List price",
    price="Unit price",
    discount="Discount",
    amount="Amount",
    this_period="Usage of this period",
    prior_period="Earlier periods: late usage and corrections",
    prior_mark="earlier period",
    list_total="At list prices",
    discount_total="Discount",
    subtotal="Subtotal",
    tax="{} {}%",
    total="Total",
    in_words="Amount in words",
    payment="Payment",
    bank="Bank",
    bank_branch="Bank branch",
    bank_account_name="Account name",
    bank_account_number="Account number",
    payment_note="Please quote {} with your payment.",
    notes="Notes",
    rate_cards="Priced by",
    rate_card="Rate card {}, version {}",
    prices_in="Prices and amounts in {}; prices per unit of quantity.",
    annex="Annex: jobs",
    annex_lead="Job runs behind this document: {}, costliest first.",
    annex_times="Times are local ({}). Costs are before tax, in {}.",
    cluster="Cluster",
    job="Job",
    user="User",
    project="Project",
    ended="Ended",
    core_hours="Core-hours",
    gpu_hours="GPU-hours",
    cost="Cost",
    others="Further job runs, listed in the CSV of this document: {}",
    page="Page",
    page_of="of",
)

THAI: Final = Texts(
    invoice="ใบแจ้งหนี้",
    statement="ใบแจ้งยอด",
    number="เลขที่",
    issue_date="วันที่ออก",
    due_date="วันครบกำหนดชำระ",
    period="รอบการใช้บริการ",
    account="รหัสบัญชีผู้ชำระ",
    tier="กลุ่มอัตราค่าบริการ",
    currency="สกุลเงิน",
    bill_to="เรียกเก็บจาก",
    tax_id="เลขประจำตัวผู้เสียภาษี",
    branch="สาขา",
    phone="โทร.",
    email="อีเมล",
    website="เว็บไซต์",
    contact="ผู้ติดต่อ",
    amount_due="ยอดที่ต้องชำระ",
    nothing_due="ไม่มียอดที่ต้องชำระ",
    due_by="โปรดชำระภายใน {}",
    line="ลำดับ",
    description="รายการ",
    quantity="จำนวน",
    list_price="ราคาเต็ม",
    price="ราคาต่อหน่วย",
    discount="ส่วนลด",
    amount="จำนวนเงิน",
    this_period="การใช้บริการในรอบนี้",
    prior_period="รอบก่อนหน้า: รายการที่มาช้าและรายการแก้ไข",
    prior_mark="รอบก่อนหน้า",
    list_total="รวมตามราคาเต็ม",
    discount_total="ส่วนลด",
    subtotal="รวมเป็นเงิน",
    tax="{} {}%",
    total="จำนวนเงินรวมทั้งสิ้น",
    in_words="จำนวนเงินเป็นตัวอักษร",
    payment="การชำระเงิน",
    bank="ธนาคาร",
    bank_branch="สาขาธนาคาร",
    bank_account_name="ชื่อบัญชี",
    bank_account_number="เลขที่บัญชี",
    payment_note="โปรดระบุเลขที่ {} ในการชำระเงิน",
    notes="หมายเหตุ",
    rate_cards="คิดราคาตาม",
    rate_card="ประกาศอัตราค่าบริการ {} ฉบับที่ {}",
    prices_in="ราคาและจำนวนเงินเป็น {} ราคาต่อหน่วยของจำนวน",
    annex="ภาคผนวก: รายการงาน",
    annex_lead="งานทั้งหมด {} งานที่เป็นที่มาของเอกสารนี้ เรียงจากค่าใช้จ่ายสูงสุด",
    annex_times="เวลาท้องถิ่น ({}) ค่าใช้จ่ายก่อนภาษีเป็น {}",
    cluster="คลัสเตอร์",
    job="เลขงาน",
    user="ผู้ใช้",
    project="โครงการ",
    ended="สิ้นสุด",
    core_hours="แกน-ชั่วโมง",
    gpu_hours="GPU-ชั่วโมง",
    cost="ค่าใช้จ่าย",
    others="งานอื่นอีก {} งาน: ดูในไฟล์ CSV ของเอกสารนี้",
    page="หน้า",
    page_of="จาก",
)

TEXTS: Final[MappingProxyType[Language, Texts]] = MappingProxyType({"en": ENGLISH, "th": THAI})

UNITS_TH: Final = MappingProxyType(
    {
        "Core-Hours": "แกน-ชั่วโมง",
        "GPU-Hours": "GPU-ชั่วโมง",
        "GiB-Hours": "GiB-ชั่วโมง",
        "Node-Hours": "โหนด-ชั่วโมง",
        "Billing-Hours": "หน่วยบริการ-ชั่วโมง",
        "kWh": "กิโลวัตต์-ชั่วโมง",
    }
)
"""Units of quantity in Thai; one that is not here is printed as it is."""
